"""The limits of a container's processes.

Spec: specs/sandbox.md#limits.
"""

import os
import resource

from node.sandbox.runner import process_limits
from node.sandbox.runner.records import Fields


def test_limits_are_in_a_child_and_never_above_ours():
    child = os.fork()
    if child == 0:
        try:
            process_limits.take(Fields([("nofile", "77"), ("core", "0")]))
            right = resource.getrlimit(resource.RLIMIT_NOFILE) == (77, 77)
            process_limits.take(Fields([("nofile", "99")]))
            right = right and resource.getrlimit(resource.RLIMIT_NOFILE) == (77, 77)
        finally:
            os._exit(0 if right else 1)
    assert os.waitpid(child, 0)[1] == 0
