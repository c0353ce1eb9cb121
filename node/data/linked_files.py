"""Files of the owner that are inputs where they lie: they are hashed once and never copied.

A file is recognised by its device, inode, size and times. If any of these changes, it is no longer
the blob: nothing of it is sent any more.

Spec: specs/data.md#linked-files.
"""

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, Final, Self

import trio

from node.data.disk import CHUNK, open_regular
from node.data.tags import replace_json
from protocol.values.bounded import keep_newest
from protocol.values.errors import BlobUnavailable, InvalidRequest
from protocol.values.ids import Digest
from protocol.wire.job import BlobRef

LINKED_MAX: Final = 4096
CHANGED: Final = "the file has changed since the job was submitted"


@dataclass(frozen=True, slots=True)
class Identity:
    """What tells whether a file is still the same."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, file: BinaryIO) -> Self:
        """Return the identity of an open file."""
        found = os.fstat(file.fileno())
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


@dataclass(frozen=True, slots=True)
class LinkedFile:
    """A file that is a blob as long as it has this identity."""

    path: str
    identity: Identity

    def open(self) -> BinaryIO:
        """Open the file; BlobUnavailable if it has changed or is gone."""
        try:
            file = open_regular(Path(self.path))
        except InvalidRequest:
            raise BlobUnavailable(CHANGED) from None
        try:
            self.require_unchanged(file)
        except BlobUnavailable:
            file.close()
            raise
        return file

    def require_unchanged(self, file: BinaryIO) -> None:
        """BlobUnavailable if the open file has changed: what was read before may be wrong."""
        if Identity.of(file) != self.identity:
            raise BlobUnavailable(CHANGED)


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A blob in our own folder, where nobody changes it."""

    path: Path

    def open(self) -> BinaryIO:
        """Open the file; BlobUnavailable if it was evicted."""
        try:
            return open_regular(self.path)
        except InvalidRequest as error:
            raise BlobUnavailable(str(error)) from None

    def require_unchanged(self, file: BinaryIO) -> None:
        """Do nothing."""


class LinkedFiles:
    """The linked files by digest, the newest LINKED_MAX; `record` is where they are kept."""

    def __init__(self, record: Path) -> None:
        self._record = record
        self._files: dict[Digest, LinkedFile] = {}
        with suppress(FileNotFoundError):
            self._files = _parsed(record.read_bytes())

    async def add(self, path: Path, expected: Identity) -> BlobRef:
        """Hash a file and link it, if it is the expected one.

        InvalidRequest if it is another one, cannot be read, or changes meanwhile; StorageFull.
        """
        digest = await trio.to_thread.run_sync(_hashed, path, expected)
        self._files.pop(digest, None)
        self._files[digest] = LinkedFile(str(path), expected)
        keep_newest(self._files, LINKED_MAX)
        await trio.to_thread.run_sync(self._write)
        return BlobRef(digest, expected.size)

    def ref(self, digest: Digest) -> BlobRef | None:
        """Return name and size of a linked file, None if there is none with this digest."""
        found = self._files.get(digest)
        return None if found is None else BlobRef(digest, found.identity.size)

    def find(self, digest: Digest) -> LinkedFile | None:
        """Return the linked file with this digest, if there is one."""
        return self._files.get(digest)

    def _write(self) -> None:
        files = {digest.hex(): asdict(file) for digest, file in self._files.items()}
        replace_json(self._record, files)


def _parsed(data: bytes) -> dict[Digest, LinkedFile]:
    return {
        Digest(bytes.fromhex(digest)): LinkedFile(each["path"], Identity(**each["identity"]))
        for digest, each in json.loads(data).items()
    }


def _hashed(path: Path, expected: Identity) -> Digest:
    whole, block = hashlib.sha256(), memoryview(bytearray(CHUNK))
    with open_regular(path) as file:
        _require(file, expected)
        while count := os.readv(file.fileno(), [block]):
            trio.from_thread.check_cancelled()
            whole.update(block[:count])
        _require(file, expected)
    return Digest(whole.digest())


def _require(file: BinaryIO, expected: Identity) -> None:
    if Identity.of(file) != expected:
        raise InvalidRequest("the file is not the one that was meant, or it is being written")
