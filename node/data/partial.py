"""A partial blob: verified chunks from the first on, in one file.

There is no list of verified chunks beside the file. Chunks arrive in order, so the file's length is
the progress; on resumption every chunk is hashed again and compared with the chunk list. So a torn
write, a power failure or another holder's list can never make us trust a wrong byte, and the
SHA-256 of the whole is complete with the last chunk.

Spec: specs/data.md#resumption.
"""

import hashlib
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import trio

from node.data.disk import full_disk_as_storage_full
from node.data.frames import CHUNK, chunk_count
from protocol.values.ids import Digest


class Partial:
    """An open partial file. All methods block; they belong in a worker thread."""

    def __init__(self, path: Path, size: int, hashes: bytes) -> None:
        """Open or create the file at `path` for a blob of `size` bytes with these chunk hashes."""
        assert len(hashes) == 32 * chunk_count(size)
        self.size = size
        self.done = 0  # Verified chunks.
        self._path = path
        self._hashes = hashes
        self._whole = hashlib.sha256()
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.fdopen(os.open(path, flags, 0o600), "r+b", buffering=0)

    @classmethod
    def resume(cls, path: Path, size: int, hashes: bytes) -> Self:
        """Open the file, keep the correct chunks at its beginning, truncate the rest."""
        with full_disk_as_storage_full(path.parent), ExitStack() as undo:
            partial = cls(path, size, hashes)
            undo.callback(partial.close)
            partial._verify_kept()
            undo.pop_all()
        return partial

    @property
    def bytes_done(self) -> int:
        """Return the number of verified bytes."""
        return min(self.done * CHUNK, self.size)

    @property
    def complete(self) -> bool:
        """Return whether all chunks are here."""
        return self.done == chunk_count(self.size)

    @property
    def digest(self) -> Digest:
        """Return the SHA-256 of all verified bytes."""
        return Digest(self._whole.digest())

    def chunk_size(self, number: int) -> int:
        """Return the size in bytes of the chunk with this number."""
        return min(CHUNK, self.size - number * CHUNK)

    def append(self, chunk: bytes) -> bool:
        """Write the next chunk if it matches the list; return whether it does."""
        if not self._is_next(chunk):
            return False
        with full_disk_as_storage_full(self._path.parent):
            view = memoryview(chunk)
            while view:
                view = view[self._file.write(view) :]
        self._count(chunk)
        return True

    def close(self) -> None:
        """Close the file and leave it where it is."""
        self._file.close()

    def _verify_kept(self) -> None:
        while not self.complete:
            trio.from_thread.check_cancelled()
            chunk = self._file.read(self.chunk_size(self.done))
            if not self._is_next(chunk):
                break
            self._count(chunk)
        self._file.truncate(self.bytes_done)
        self._file.seek(self.bytes_done)

    def _is_next(self, chunk: bytes) -> bool:
        expected = self._hashes[32 * self.done : 32 * (self.done + 1)]
        return hashlib.sha256(chunk).digest() == expected

    def _count(self, chunk: bytes) -> None:
        self._whole.update(chunk)
        self.done += 1
