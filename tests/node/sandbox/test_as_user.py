"""Where root runs the tests: those of the embedded sandbox once more, by an ordinary user.

It is another sandbox then: the job has the node's user id, and there are no control groups.
Spec: specs/sandbox.md#what-is-proven-and-what-is-weaker.
"""

import os
import re
import sys

import pytest

from tests.ordinary_user import folder_of_user, run_command_as_user

FILES = (
    "test_checkpoints",
    "test_egress",
    "test_embedded",
    "test_escape",
    "test_selftest",
    "test_soft_limits",
    "runner/test_namespace_limits",
)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_attacks_are_contained_for_an_ordinary_user_too():
    with folder_of_user() as place:
        done = run_command_as_user(
            sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
            f"--basetemp={place}/tests", *(f"tests/node/sandbox/{name}.py" for name in FILES),
            HYPOTHESIS_STORAGE_DIRECTORY=f"{place}/hypothesis",
        )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.findall(r"(\d+) passed", done.stdout)
    assert int(*passed) > 40, done.stdout
