"""No path leaves the root folder, whatever links it goes through.

Spec: specs/data.md#unpacking.
"""

import ctypes
import errno
import os
import re
from pathlib import Path

import pytest

from node.data import openat2
from node.data.openat2 import open_beneath, open_in_root, sync_file_system
from protocol.values.errors import SandboxUnavailable


@pytest.fixture
def root(tmp_path: Path):
    (tmp_path / "secret").write_text("outside")
    inside = tmp_path / "root"
    (inside / "d").mkdir(parents=True)
    (inside / "secret").write_text("inside")
    (inside / "absolute").symlink_to("/secret")
    (inside / "climbing").symlink_to("../../../secret")
    (inside / "magic").symlink_to("/proc/self/root/secret")
    handle = os.open(inside, os.O_RDONLY | os.O_DIRECTORY)
    yield handle
    os.close(handle)


@pytest.mark.parametrize("path", ["secret", "/secret", "d/../../secret", "absolute", "climbing"])
def test_paths_stay_inside(root: int, path: str) -> None:
    with os.fdopen(open_in_root(root, path, os.O_RDONLY)) as file:
        assert file.read() == "inside"


@pytest.mark.parametrize("path", ["magic", "absent"])
def test_what_is_not_inside_is_not_there(root: int, path: str) -> None:
    with pytest.raises(FileNotFoundError):
        open_in_root(root, path, os.O_RDONLY)


def test_beneath_a_root_no_link_is_followed_and_nothing_climbs(root: int) -> None:
    os.close(open_beneath(root, "d", os.O_RDONLY))
    (Path(f"/proc/self/fd/{root}") / "link").symlink_to("d")
    for path, number in (("link", errno.ELOOP), ("d/../..", errno.EXDEV), ("/d", errno.EXDEV)):
        with pytest.raises(OSError, match=re.escape(os.strerror(number))):
            open_beneath(root, path, os.O_RDONLY)


def test_the_root_itself(root: int) -> None:
    handle = open_in_root(root, "", os.O_RDONLY | os.O_DIRECTORY)
    assert os.path.samestat(os.fstat(handle), os.fstat(root))
    assert not os.get_inheritable(handle)
    os.close(handle)


def test_an_old_kernel_is_refused(root: int, monkeypatch) -> None:
    class OldLibc:
        def syscall(self, *_) -> int:
            ctypes.set_errno(errno.ENOSYS)
            return -1

    monkeypatch.setattr(openat2, "LIBC", OldLibc())
    with pytest.raises(SandboxUnavailable, match=r"Linux 5\.6"):
        open_in_root(root, "secret", os.O_RDONLY)


def test_syncing(root: int) -> None:
    sync_file_system(root)
    with pytest.raises(OSError, match="Bad file descriptor"):
        sync_file_system(-1)
