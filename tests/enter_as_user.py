"""Becomes an ordinary user who can read some folders of ours, and executes a command.

The folders may lie in a home that nobody else may enter, as Python itself often does. A private
mount namespace covers such a home with an empty one that holds these folders alone.

    python tests/enter_as_user.py USER GROUP,… FOLDER:… COMMAND …

Spec: specs/overview.md#tests.
"""

import ctypes
import os
import sys
from pathlib import Path

NEW_MOUNTS = 0x00020000
BIND, RECURSIVE, PRIVATE = 0x1000, 0x4000, 0x40000
LIBC = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Do all that, or die of the OSError that says why not."""
    user, groups, folders, *command = sys.argv[1:]
    show([Path(folder) for folder in folders.split(":")])
    os.setgroups([int(group) for group in groups.split(",") if group])
    os.setresgid(int(user), int(user), int(user))
    os.setresuid(int(user), int(user), int(user))
    os.execvp(command[0], command)


def show(folders: list[Path]) -> None:
    """Let everybody who is in this process's new mount namespace enter the folders."""
    called(LIBC.unshare(NEW_MOUNTS))
    mount("none", Path("/"), RECURSIVE | PRIVATE)
    closed = {folder: closed_above(folder) for folder in folders}
    opened = {folder: os.open(folder, os.O_PATH) for folder in folders if closed[folder]}
    for place in set(closed.values()) - {None}:
        mount("none", place, 0, "tmpfs", "mode=0755")
    for folder, descriptor in opened.items():
        folder.mkdir(parents=True, exist_ok=True)
        mount(f"/proc/self/fd/{descriptor}", folder, BIND | RECURSIVE)


def closed_above(folder: Path) -> Path | None:
    """Return the topmost folder on the way that strangers may not enter, None if they may all."""
    return next((p for p in reversed(folder.parents) if not p.stat().st_mode & 0o001), None)


def mount(source: str, target: Path, flags: int, kind: str = "", options: str = "") -> None:
    words = [word.encode() or None for word in (source, str(target), kind, options)]
    called(LIBC.mount(words[0], words[1], words[2], flags, words[3]))


def called(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    main()
