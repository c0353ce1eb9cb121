"""Removes a tree that a stranger made: any depth, any modes, and no link is followed.

Each folder is first moved up to the root of the tree, so that neither its path nor the stack grows.

Spec: specs/disk.md#folder.
"""

import os
import stat
from itertools import count
from pathlib import Path
from typing import Final

FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
HANDLE: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
OPEN: Final = 0o700


def remove_tree(folder: Path) -> None:
    """Remove a folder whose writers are dead, with all below it; OSError if that fails."""
    root = os.open(folder, FOLDER)
    try:
        numbers = count()
        names = _emptied(root, root, numbers)
        while names:
            name = names.pop()
            inner = _opened(name, root)
            try:
                names += _emptied(inner, root, numbers)
            finally:
                os.close(inner)
            os.rmdir(name, dir_fd=root)
    finally:
        os.close(root)
    folder.rmdir()


def _emptied(folder: int, root: int, numbers: "count[int]") -> list[str]:
    """Remove the files of a folder and move its folders to the root; return their new names."""
    moved = []
    with os.scandir(folder) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_folder in found:
        if not is_folder:
            os.unlink(name, dir_fd=folder)
            continue
        os.close(_opened(name, folder))  # Only its owner may move it, and only if it is writable.
        moved.append(f".removed-{next(numbers)}")
        os.rename(name, moved[-1], src_dir_fd=folder, dst_dir_fd=root)
    return moved


def _opened(name: str, parent: int) -> int:
    """Return a descriptor of a folder, which its owner may read and write from now on."""
    handle = os.open(name, HANDLE, dir_fd=parent)
    try:
        mode = os.fstat(handle).st_mode
        if stat.S_IMODE(mode) & OPEN != OPEN:
            os.chmod(f"/proc/self/fd/{handle}", OPEN)  # noqa: PTH101 - a descriptor's path.
        return os.open(name, FOLDER, dir_fd=parent)
    finally:
        os.close(handle)
