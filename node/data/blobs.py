"""The blob folder: bytes by their SHA-256, within a budget, with LRU eviction.

A blob is a read-only file `<folder>/sha256/<2 hex>/<64 hex>`. It gets this name only when it is
complete, synced to disk, and its digest is verified. Incomplete files are in `<folder>/incoming`.

Spec: specs/data.md#on-disk.
"""

import io
import os
import secrets
import shutil
import weakref
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import trio

from node.data.blob_files import PARTIAL, blob_files, partial_files, unlink_all
from node.data.disk import (
    Readable,
    copy_hashed,
    create_private,
    full_disk_as_storage_full,
    hashed,
    link,
    make_final,
    open_regular,
)
from node.data.linked_files import LinkedFile, LinkedFiles, StoredFile
from protocol.values.errors import BlobUnavailable, InvalidRequest, StorageFull
from protocol.values.ids import Digest, digest_of
from protocol.wire.job import BlobRef

__all__ = ["BlobIndex", "BlobRef", "BlobSource", "Blobs", "Complete"]

READ_MAX: Final = 4 * 1024 * 1024
"""The default limit of `read`, in bytes: manifests and logs are small."""
KINDS: Final = frozenset({"image", "input", "output", "log"})
DISK_RESERVE: Final = 16 * 1024 * 1024
"""Blobs leave this much of the disk free, so the node can still write its journal."""
BLOBS_MAX: Final = 250_000
"""The most unpinned blobs: even a small one takes an inode and some memory."""


class BlobIndex(Protocol):
    """The index of blobs in the journal."""

    async def record_blobs(self, blobs: Sequence[tuple[Digest, int, str]]) -> None:
        """Record blobs, with size in bytes and kind; recording one again replaces its kind."""
        ...

    async def forget_blobs(self, digests: Sequence[Digest]) -> None:
        """Delete blobs from the index; unknown ones are ignored."""
        ...

    async def known_blobs(self) -> tuple[tuple[Digest, int, str], ...]:
        """Return digest, size in bytes and kind of all blobs."""
        ...


@dataclass(frozen=True, slots=True)
class BlobSource:
    """The source of a blob: how to open it, its maximum size in bytes, its kind.

    `place` is its file if that is ours and nobody writes to it any more: it need not be copied.
    """

    open: Callable[[], AbstractContextManager[Readable]]
    size_max: int
    kind: str
    place: Path | None = None


@dataclass(frozen=True, slots=True)
class Complete:
    """A file in our folder that has all the bytes of a blob."""

    path: Path
    ref: BlobRef
    kind: str


@dataclass(frozen=True, slots=True)
class _Entry:
    size: int
    kind: str


class Blobs:
    """All blobs of this node. Call `reconcile` once before anything else.

    `folder` belongs to this node alone (`<data>/blobs`); `budget_mib` limits blobs and transfers.
    """

    def __init__(self, folder: Path, index: BlobIndex, budget_mib: int) -> None:
        self._final = folder / "sha256"
        self._incoming = folder / "incoming"
        self._index = index
        self._budget = budget_mib * 1024 * 1024
        self._entries: dict[Digest, _Entry] = {}  # The least recently used is first.
        self._kept = 0  # Bytes of all entries.
        self._pins: dict[str, set[Digest]] = {}
        self._idle: dict[Path, int] = {}  # Interrupted transfers, with their sizes in bytes.
        self._reserved = 0
        self._transfers = weakref.WeakValueDictionary[Digest, trio.Lock]()
        self._verified: set[Digest] = set()
        self.linked = LinkedFiles(folder / "linked.json")
        self._naming = trio.Lock()  # Held while names are given or removed.

    async def put_file(self, path: Path, kind: str) -> BlobRef:
        """Copy a file in; InvalidRequest if it cannot be read, StorageFull if there is no room.

        It is always copied: a hard link would change when its owner writes to the file.
        """
        with open_regular(path) as source:
            return await self.put_stream(source, os.fstat(source.fileno()).st_size, kind)

    async def put_bytes(self, data: bytes, kind: str) -> BlobRef:
        """Store some bytes; StorageFull if there is no room."""
        return await self.put_stream(io.BytesIO(data), len(data), kind)

    async def put_stream(
        self, source: Readable, size_max: int, kind: str, expected: Digest | None = None
    ) -> BlobRef:
        """Store a source's bytes up to its end, at most `size_max` bytes.

        InvalidRequest if it yields more, or if its digest is not the expected one.
        """
        temporary = self._incoming / f"{secrets.token_hex(16)}.tmp"
        async with self.room(size_max):
            try:
                ref = await trio.to_thread.run_sync(_write, source, temporary, size_max, expected)
                await self.adopt(Complete(temporary, ref, kind))
            finally:
                temporary.unlink(missing_ok=True)  # Gone already if it was adopted.
        return ref

    async def put_all(self, sources: Sequence[BlobSource], owner: str) -> tuple[BlobRef, ...]:
        """Store many sources, pinned for an owner, with few syncs.

        All or none are stored. Errors as of `put_stream`, and those of opening the sources.
        """
        temporary = [self._incoming / f"{secrets.token_hex(16)}.tmp" for _ in sources]
        async with self.room(sum(source.size_max for source in sources), len(sources)):
            try:
                written = await trio.to_thread.run_sync(_write_all, sources, temporary)
                refs = tuple(each.ref for each in written)
                self.pin(owner, *(ref.digest for ref in refs))
                # Existing and repeated blobs are not written again.
                new = {ref.digest: each for ref, each in zip(refs, written, strict=True)
                       if self.path(ref.digest) is None}  # fmt: skip
                if new:
                    await self.adopt(*new.values())
            finally:
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(unlink_all, temporary)
        return refs

    async def read(self, digest: Digest, limit: int = READ_MAX) -> bytes:
        """Return a small blob's bytes, checked against the digest.

        BlobUnavailable if it is not here or was damaged, InvalidRequest if it is over `limit`.
        """
        path = self.path(digest)
        if path is None:
            raise BlobUnavailable(f"blob {_short(digest)} is not here")
        if self._entries[digest].size > limit:
            raise InvalidRequest(f"blob {_short(digest)} has more than {limit} bytes")
        data = await trio.to_thread.run_sync(path.read_bytes)
        if digest_of(data) != digest:
            await self.drop(digest)
            raise BlobUnavailable(f"blob {_short(digest)} was damaged on disk and is removed")
        return data

    def path(self, digest: Digest) -> Path | None:
        """Return the path of the blob's bytes, None if it is not here; pin it to keep it there."""
        entry = self._entries.get(digest)
        if entry is None:
            return None
        self._note(digest, entry)  # It is now the most recently used, in memory and on disk.
        path = self._path(digest)
        try:
            os.utime(path)
        except FileNotFoundError:  # Somebody removed it by hand.
            self._note(digest, None)
            return None
        return path

    def content(self, digest: Digest) -> tuple[BlobRef, StoredFile | LinkedFile] | None:
        """Return the size of a blob and where its bytes are, None if this node has none."""
        ref, path = self.ref(digest), self.path(digest)
        if ref is not None and path is not None:
            return ref, StoredFile(path)
        ref, linked = self.linked.ref(digest), self.linked.find(digest)
        return None if ref is None or linked is None else (ref, linked)

    def is_verified(self, digest: Digest) -> bool:
        """Return whether this process has hashed a blob that is here."""
        return digest in self._verified and digest in self._entries

    def verified(self, digest: Digest) -> None:
        """Record that a blob was hashed, and is right."""
        self._verified.add(digest)

    def ref(self, digest: Digest) -> BlobRef | None:
        """Return name and size of a blob, None if it is not here."""
        entry = self._entries.get(digest)
        return None if entry is None else BlobRef(digest, entry.size)

    def of_kind(self, kind: str) -> tuple[BlobRef, ...]:
        """Return all blobs of a kind."""
        return tuple(BlobRef(d, e.size) for d, e in self._entries.items() if e.kind == kind)

    def used_bytes(self) -> int:
        """Return the used budget: blobs, transfers, and their remaining growth."""
        return self._kept + sum(self._idle.values()) + self._reserved

    def pin(self, owner: str, *digests: Digest) -> None:
        """Keep these blobs, present or not, until their owner's pins are removed.

        Pins exist in memory only: their owner sets them again after a start.
        """
        self._pins.setdefault(owner, set()).update(digests)

    def unpin(self, owner: str) -> None:
        """Remove all pins of an owner, if it has any."""
        self._pins.pop(owner, None)

    async def drop(self, digest: Digest) -> None:
        """Remove a blob, pinned or not, if it is here."""
        await self._remove(lambda: [digest])

    async def sweep(self, need: int = 0, count: int = 0) -> int:
        """Evict unpinned blobs, oldest first, until `need` more bytes fit; return bytes freed.

        `count` more blobs must fit, too. If it cannot evict enough, `used_bytes` shows that.
        """
        before = self.used_bytes()
        for path in tuple(self._idle):
            if self.used_bytes() + need > self._budget:
                del self._idle[path]
                path.unlink(missing_ok=True)
        await self._remove(lambda: self._oldest(need, count))
        return before - self.used_bytes()

    def can_hold(self, size: int) -> bool:
        """Return whether so many bytes would fit after evicting everything unpinned."""
        if self.used_bytes() + size <= self._budget:
            return True
        pinned = frozenset[Digest]().union(*self._pins.values())
        kept = sum(entry.size for digest, entry in self._entries.items() if digest in pinned)
        return kept + self._reserved + size <= self._budget

    @asynccontextmanager
    async def room(self, size: int, count: int = 1) -> AsyncIterator[None]:
        """Reserve room for so many bytes; StorageFull if eviction cannot make enough."""
        # Nothing is evicted for bytes that cannot fit: a stranger might request them.
        many = len(self._entries) + count > BLOBS_MAX
        if (many or self.used_bytes() + size > self._budget) and self.can_hold(size):
            await self.sweep(size, count)
        if shutil.disk_usage(self._incoming).free < size + DISK_RESERVE:
            raise StorageFull(f"the disk is too full for {size} bytes: free some space")
        if self.used_bytes() + size > self._budget:
            line = f"{size} bytes do not fit into the blob budget of {self._budget} bytes"
            raise StorageFull(f"{line}: raise storage.blobs_mib, or remove images or results")
        self._reserved += size
        try:
            yield
        finally:
            self._reserved -= size

    @asynccontextmanager
    async def partial(self, digest: Digest, size: int) -> AsyncIterator[Path]:
        """Yield the file of a transfer of `size` bytes; it stays when cut off. One at a time."""
        path = self._incoming / f"{digest.hex()}{PARTIAL}"
        async with self._transfers.setdefault(digest, trio.Lock()):
            self._idle.pop(path, None)
            try:
                async with self.room(size):
                    yield path
            finally:
                if path.exists():
                    self._idle[path] = path.stat().st_size

    async def adopt(self, *complete: Complete) -> None:
        """Turn complete files in our folder into blobs; the caller has verified their digests."""
        assert all(each.kind in KINDS for each in complete)
        moves = [(each.path, self._path(each.ref.digest)) for each in complete]
        self._verified.update(each.ref.digest for each in complete)
        rows = []
        async with self._naming:
            await trio.to_thread.run_sync(make_final, moves)
            for each in complete:
                before = self._entries.get(each.ref.digest)
                kind = "image" if before is not None and before.kind == "image" else each.kind
                self._note(each.ref.digest, _Entry(each.ref.size, kind))
                rows.append((each.ref.digest, each.ref.size, kind))
        await self._index.record_blobs(rows)

    async def reconcile(self) -> None:
        """Read the folder: find all blobs, update the index, remove incomplete files."""
        found, self._idle = await trio.to_thread.run_sync(self._look)
        kinds = {digest: (size, kind) for digest, size, kind in await self._index.known_blobs()}
        await self._index.forget_blobs(tuple(kinds.keys() - found.keys()))
        self._entries, self._kept = {}, 0
        rows = []
        for digest, size in found.items():
            # The crash came between rename and record: the kind is unknown.
            size_known, kind = kinds.get(digest, (size, "input"))
            if digest not in kinds or size_known != size:
                rows.append((digest, size, kind))
            self._note(digest, _Entry(size, kind))
        await self._index.record_blobs(rows)

    def _note(self, digest: Digest, entry: _Entry | None) -> None:
        """Make a blob the most recently used; None removes it from the index."""
        before = self._entries.pop(digest, None)
        self._kept -= before.size if before else 0
        if entry is not None:
            self._entries[digest] = entry
            self._kept += entry.size

    async def _remove(self, choose: Callable[[], Sequence[Digest]]) -> None:
        async with self._naming:
            digests = choose()  # Not earlier: a blob may be pinned while another is named.
            for digest in digests:
                self._note(digest, None)
            self._verified.difference_update(digests)
            paths = [self._path(digest) for digest in digests]
            await trio.to_thread.run_sync(unlink_all, paths)
        if digests:
            await self._index.forget_blobs(digests)

    def _oldest(self, need: int, count: int) -> list[Digest]:
        """Return the unpinned blobs to evict to make room for bytes and blobs."""
        bytes_over = self.used_bytes() + need - self._budget
        blobs_over = len(self._entries) + count - BLOBS_MAX
        pinned = frozenset[Digest]().union(*self._pins.values())
        oldest: list[Digest] = []
        for digest, entry in self._entries.items():
            if bytes_over <= 0 and blobs_over <= len(oldest):
                break
            if digest not in pinned:
                oldest.append(digest)
                bytes_over -= entry.size
        return oldest

    def _path(self, digest: Digest) -> Path:
        name = digest.hex()
        return self._final / name[:2] / name

    def _look(self) -> tuple[dict[Digest, int], dict[Path, int]]:
        """Return blobs and interrupted transfers with their sizes, least recently used first."""
        for folder in (self._final, self._incoming):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        blobs = sorted(blob_files(self._final), key=lambda item: item[1].st_mtime_ns)
        partials = sorted(partial_files(self._incoming), key=lambda item: item[1].st_mtime_ns)
        return (
            {digest: status.st_size for digest, status in blobs},
            {path: status.st_size for path, status in partials},
        )


def _write(source: Readable, temporary: Path, size_max: int, expected: Digest | None) -> BlobRef:
    """Copy the source to a new file; InvalidRequest if the digest is not the expected one."""
    with full_disk_as_storage_full(temporary.parent), create_private(temporary) as file:
        digest, size = copy_hashed(source, file, size_max)
    if expected is not None and digest != expected:
        raise InvalidRequest(f"blob {_short(expected)} is damaged: its bytes are {_short(digest)}")
    return BlobRef(digest, size)


def _write_all(sources: Sequence[BlobSource], temporary: Sequence[Path]) -> list[Complete]:
    """Make a new file of each source: another name of its own, or a copy."""
    written = []
    for source, path in zip(sources, temporary, strict=True):
        with source.open() as file:
            if source.place is not None and link(source.place, path):
                ref = BlobRef(*hashed(file, source.size_max))
            else:
                ref = _write(file, path, source.size_max, None)
        written.append(Complete(path, ref, source.kind))
    return written


def _short(digest: Digest) -> str:
    return f"sha256:{digest.hex()[:12]}"
