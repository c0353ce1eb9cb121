"""File operations of the blob folder: copy and hash, and give a file its final name.

Everything here blocks, so it runs in a worker thread of trio; every loop over bytes checks for
cancellation.

Spec: specs/data.md#on-disk.
"""

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, Protocol

import trio

from node.data.openat2 import sync_file_system
from protocol.values.errors import InvalidRequest, StorageFull
from protocol.values.ids import Digest

CHUNK: Final = 1024 * 1024
"""Bytes to hash, write and send at a time."""
NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
SYNCED_ONE_BY_ONE_MAX: Final = 16
"""More files than this are synced with their whole file system: waiting for other programs' writes
takes less time than a commit of the file system's journal for each file."""
FLOOR_BYTES_MAX: Final = 1024**3
FLOOR_PERCENT: Final = 10
"""Strangers' images leave this fraction of the disk free, but at most FLOOR_BYTES_MAX."""


class Readable(Protocol):
    """A source of bytes."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes; none at the end."""
        ...


@contextmanager
def full_disk_as_storage_full(folder: Path) -> Iterator[None]:
    """Turn the operating system's "no space" errors into StorageFull."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        line = f"the disk of {folder} is full: free some space, or lower storage.blobs_mib"
        raise StorageFull(line) from error


def is_short(folder: Path, coming: int = 0) -> bool:
    """Return whether the disk of a folder would be nearly full with so many more bytes.

    The space below the floor is for the owner and this node, not for strangers' files. Inodes
    count like bytes; a file system that creates them on demand (btrfs) reports none.
    """
    disk = os.statvfs(folder)
    floor = min(FLOOR_BYTES_MAX, disk.f_blocks * disk.f_frsize * FLOOR_PERCENT // 100)
    few_inodes = disk.f_favail < disk.f_files * FLOOR_PERCENT // 100
    return few_inodes or disk.f_bavail * disk.f_frsize < coming + floor


def no_room(unpacked_mib: int) -> str:
    """Return the error text for what does not fit into storage.unpacked_mib."""
    return (
        f"image and input folders do not fit into the {unpacked_mib} MiB that this provider has for"
        " what is unpacked (storage.unpacked_mib)"
    )


def open_regular(path: Path) -> BinaryIO:
    """Open a user's file for reading; InvalidRequest if it is missing or no regular file."""
    try:
        # Without O_NONBLOCK, opening a FIFO would wait for its writer forever.
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise InvalidRequest(f"cannot read {path}: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise InvalidRequest(f"cannot read {path}: it is not a regular file")
    return os.fdopen(handle, "rb")


def create_private(path: Path) -> BinaryIO:
    """Create a file that only we may read and write; FileExistsError if the name is taken."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, 0o600), "w+b")


def copy_hashed(source: Readable, target: BinaryIO, size_max: int) -> tuple[Digest, int]:
    """Copy until the source ends; return the digest and the size in bytes.

    InvalidRequest if the source has more than `size_max` bytes.
    """
    return _read_all(source, size_max, target.write)


def hashed(source: Readable, size_max: int) -> tuple[Digest, int]:
    """Read until the source ends; return the digest and the size in bytes, as `copy_hashed`."""
    return _read_all(source, size_max, len)


def _read_all(
    source: Readable, size_max: int, use: Callable[[bytes], object]
) -> tuple[Digest, int]:
    whole = hashlib.sha256()
    size = 0
    while data := source.read(CHUNK):
        trio.from_thread.check_cancelled()
        size += len(data)
        if size > size_max:
            raise InvalidRequest(f"the source grew beyond {size_max} bytes while it was read")
        whole.update(data)
        use(data)
    return Digest(whole.digest()), size


def link(place: Path, name: Path) -> bool:
    """Give a file one more name; return whether that is possible, as within one file system."""
    try:
        os.link(place, name, follow_symlinks=False)
    except OSError:
        return False
    return True


def make_final(moves: Sequence[tuple[Path, Path]]) -> None:
    """Give complete files their final names; missing folders are created.

    After a crash each file is either complete under its final name, or does not have it. All are
    on one file system. StorageFull if it is full.
    """
    if not moves:
        return
    with full_disk_as_storage_full(moves[0][0].parent):
        for temporary, _ in moves:
            temporary.chmod(0o400)
        _sync([temporary for temporary, _ in moves])
        changed = set()
        for temporary, final in moves:
            if not final.parent.exists():
                final.parent.mkdir(mode=0o700)
                changed.add(final.parent.parent)
            temporary.rename(final)
            changed.add(final.parent)
        _sync(changed)


def sync(path: Path) -> None:
    """Sync a file's bytes, or the names in a folder, to disk."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync(paths: Collection[Path]) -> None:
    """Sync files or folders of one file system; for many, sync the file system once."""
    if len(paths) <= SYNCED_ONE_BY_ONE_MAX:
        for path in paths:
            sync(path)
        return
    handle = os.open(next(iter(paths)), os.O_RDONLY | os.O_CLOEXEC)
    try:
        sync_file_system(handle)
    finally:
        os.close(handle)
