"""Writes a pack: a folder as one canonical tar, generated while it is read.

The same content gives the same bytes, whatever the times and owners of the files. The size is known
before the first byte is read.

Spec: specs/inputs.md#packs.
"""

import os
import posixpath
import stat
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from protocol.values.errors import InvalidRequest

BLOCK: Final = tarfile.BLOCKSIZE
CHUNK_BYTES: Final = 2**18
MTIME: Final = 315_532_800
"""1980-01-01, the time of all entries: zip archives, such as wheels, hold no earlier one."""
PLAIN_SIZE_MAX: Final = 8**11
"""From this size on a file needs a pax header."""
TYPES: Final = {
    "file": tarfile.REGTYPE,
    "folder": tarfile.DIRTYPE,
    "symbolic link": tarfile.SYMTYPE,
}
READ_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class PackEntry:
    """One thing in a folder; `kind` is a key of TYPES. A folder comes before its content."""

    path: str
    kind: str
    size: int = 0
    executable: bool = False
    link: str = ""


def pack_size(entries: Iterable[PackEntry]) -> int:
    """Return the bytes of the pack."""
    return 2 * BLOCK + sum(
        len(header_of(each)) + each.size + -each.size % BLOCK for each in entries
    )


def pack_chunks(entries: Iterable[PackEntry], folder: Path) -> Iterator[bytes]:
    """Yield the pack in large pieces; OSError or InvalidRequest if a file is not as it was."""
    waiting: list[bytes] = []
    size = 0
    for part in _parts(entries, folder):
        waiting.append(part)
        size += len(part)
        if size >= CHUNK_BYTES:
            yield b"".join(waiting)
            waiting, size = [], 0
    yield b"".join([*waiting, bytes(2 * BLOCK)])


def stays_inside(path: str, link: str) -> bool:
    """Return whether a link at a path in a folder names something in that folder."""
    if not link or link.startswith("/") or "\0" in link:
        return False
    inner = posixpath.normpath(posixpath.join(posixpath.dirname(path), link))
    return inner != ".." and not inner.startswith("../")


def _parts(entries: Iterable[PackEntry], folder: Path) -> Iterator[bytes]:
    for entry in entries:
        yield header_of(entry)
        if entry.kind == "file":
            yield from _content(f"{folder}/{entry.path}", entry)
            yield bytes(-entry.size % BLOCK)


def _content(path: str, entry: PackEntry) -> Iterator[bytes]:
    handle = os.open(path, READ_FILE)
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or status.st_size != entry.size:
            raise _changed(entry)
        left = entry.size
        while left:
            data = os.read(handle, min(CHUNK_BYTES, left))
            if not data:
                raise _changed(entry)
            left -= len(data)
            yield data
    finally:
        os.close(handle)


def _changed(entry: PackEntry) -> InvalidRequest:
    return InvalidRequest(f"{entry.path} changed while it was read; try again")


def header_of(entry: PackEntry) -> bytes:
    """Return the entry's header as tarfile writes it, which takes six times as long."""
    name = f"{entry.path}/" if entry.kind == "folder" else entry.path
    plain = (
        name.isascii() and len(name) <= tarfile.LENGTH_NAME and entry.size < PLAIN_SIZE_MAX
        and entry.link.isascii() and len(entry.link) <= tarfile.LENGTH_LINK
    )  # fmt: skip
    mode = 0o777 if entry.kind == "symbolic link" else 0o755
    if entry.kind == "file" and not entry.executable:
        mode = 0o644
    if not plain:
        info = tarfile.TarInfo(entry.path)
        info.type, info.size, info.mode, info.mtime = TYPES[entry.kind], entry.size, mode, MTIME
        info.linkname = entry.link
        return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")
    block = b"%s%07o\0%07o\0%07o\0%011o\0%011o\0        %s%sustar\x0000" % (
        name.encode().ljust(tarfile.LENGTH_NAME, b"\0"), mode, 0, 0, entry.size, MTIME,
        TYPES[entry.kind], entry.link.encode().ljust(tarfile.LENGTH_LINK, b"\0"),
    )  # fmt: skip
    block = block.ljust(BLOCK, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]
