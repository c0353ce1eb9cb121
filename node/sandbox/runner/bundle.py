"""The bytes of many small outputs in one file, and a line for each in another.

A new file costs the disk about as much as 64 KiB do, and its removal more.

Spec: specs/sandbox.md#outputs.
"""

# pathlib takes 10 ms to import.
# ruff: noqa: PTH108

import os
from contextlib import suppress

FILE_BYTES_MAX = 64 << 10
"""Larger files are files of their own."""
ALONE_MAX = 63
"""So many small files are files of their own: most jobs leave fewer."""
CONTENT, INDEX = ".bundle", ".index"
"""Suffixes to the name of the folder of outputs."""
NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Bundle:
    """The bundle beside a folder of outputs; it is there once it has a file."""

    __slots__ = ("content", "lines", "small", "target")

    def __init__(self, target: str) -> None:
        self.target = target
        self.content = -1
        self.small = 0
        self.lines: list[str] = []

    def takes(self, size: int) -> bool:
        """Return whether the next file, of this size, belongs into the bundle."""
        self.small += size <= FILE_BYTES_MAX
        return size <= FILE_BYTES_MAX and self.small > ALONE_MAX

    def place(self) -> int:
        """Return the descriptor to which a file's bytes are appended."""
        if self.content < 0:
            self.content = os.open(self.target + CONTENT, NEW_FILE, 0o600)
        return self.content

    def note(self, path: str, size: int, executable: bool) -> None:  # noqa: FBT001
        """Note that so many bytes of a file were appended."""
        self.lines.append(f"{'x' if executable else '-'} {size} {path}\n")

    def close(self) -> None:
        """Write the index, if there is anything."""
        if self.content >= 0:
            os.close(self.content)
            self.content = -1
            with os.fdopen(os.open(self.target + INDEX, NEW_FILE, 0o600), "w") as index:
                index.writelines(self.lines)


def discard(target: str) -> None:
    """Remove the bundle beside a folder of outputs, if there is one."""
    for suffix in (CONTENT, INDEX):
        with suppress(FileNotFoundError):
            os.unlink(target + suffix)
