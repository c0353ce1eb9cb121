"""Mounts in a namespace of our own.

Spec: specs/disk.md#image.
"""

import os
from pathlib import Path

import pytest

from node.sandbox.runner import mounts


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_what_is_mounted_in_an_own_namespace_is_seen_nowhere_else(tmp_path):
    child = os.fork()
    if child == 0:
        right = False
        try:
            mounts.own_namespace()
            mounts.mount("test", str(tmp_path), "tmpfs", mounts.NO_SUID, "size=1m")
            right = tmp_path.is_mount()
            mounts.unmount(str(tmp_path))
            right = right and not tmp_path.is_mount()
        finally:
            os._exit(0 if right else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()


def test_a_mount_that_the_kernel_refuses_says_why(tmp_path):
    with pytest.raises(OSError, match=r"No such (device|file)|not permitted"):
        mounts.mount("test", str(tmp_path), "no-such-file-system")
