"""The fetcher's side of the blob protocol: verifies every chunk, resumes, tries all holders.

Spec: specs/data.md#transfer.
"""

import io
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import trio

from node.data.blobs import BlobRef, Blobs, BlobSource, Complete
from node.data.frames import (
    CHUNK,
    CHUNKS_PER_REQUEST_MAX,
    HASHES_PER_FRAME,
    MESSAGE_MAX,
    PROTOCOL,
    Buffered,
    ChunkRequest,
    FrameStream,
    ListRequest,
    ReplyStatus,
    chunk_count,
    decode_reply,
    encode_request,
    patience,
    read_frame,
    send_frame,
)
from node.data.partial import Partial
from node.data.serving import BlobServer
from protocol.values.errors import (
    BlobUnavailable,
    PeerFault,
    PeerUnreachable,
    RuleBroken,
    StorageFull,
)
from protocol.values.ids import Digest, PeerId, digest_of

__all__ = ["PROTOCOL", "BlobFetcher", "BlobServer", "FrameStream", "Holding"]

LOG: Final = logging.getLogger(__name__)
AHEAD_MAX: Final = 64
"""Small blobs to request before the first of them is read."""
BATCH_MAX: Final = 4096
BATCH_BYTES_MAX: Final = 16 * CHUNK
"""Small blobs to hold in memory until they are written together."""
FAILURES_TOLD_MAX: Final = 3
"""Holders whose failure BlobUnavailable names in its line."""

Progress = Callable[[int, int], None]
"""Called with the verified bytes and the size of the blob, after each chunk."""


def log_fault(fault: PeerFault) -> None:
    """Blame a peer in the log only; the daemon gives the network's `blame` instead."""
    LOG.warning("peer at fault: %s", fault)


@dataclass(frozen=True, slots=True)
class _Wanted:
    digest: Digest
    kind: str
    size_max: int

    def __str__(self) -> str:
        return _named(self.digest)


@dataclass(frozen=True, slots=True)
class Holding:
    """The holders of blobs, their kind, and the owner of their pins here."""

    holder: PeerId
    kind: str
    owner: str


@dataclass(slots=True)
class _Transfer:
    """Shared by all concurrent fetches of one digest; one of them holds the lock."""

    lock: trio.Lock = field(default_factory=trio.Lock)
    listeners: list[Progress] = field(default_factory=list)
    users: int = 0

    def report(self, done: int, size: int) -> None:
        for listener in self.listeners:
            listener(done, size)


class BlobFetcher:
    """Fetches blobs from peers into `blobs`.

    `open_stream` opens a stream to a peer for a protocol, `blame` is called for each fault of a
    holder, `patience_s` limits each wait for a holder: a stream, an answer, a chunk.
    """

    def __init__(
        self,
        blobs: Blobs,
        open_stream: Callable[[PeerId, str], Awaitable[FrameStream]],
        blame: Callable[[PeerFault], None] = log_fault,
        patience_s: float = 30,
    ) -> None:
        self._blobs = blobs
        self._open_stream = open_stream
        self._blame = blame
        self._patience_s = patience_s
        self._transfers: dict[Digest, _Transfer] = {}

    async def fetch(
        self,
        digest: Digest,
        holders: Sequence[PeerId],
        kind: str,
        size_max: int,
        progress: Progress | None = None,
    ) -> BlobRef:
        """Return the blob; if it is not here, fetch it from the first holder that has it.

        BlobUnavailable if no holder provides it, or if it has more than `size_max` bytes;
        StorageFull if it does not fit. The next attempt resumes after a failure.
        """
        transfer = self._transfers.setdefault(digest, _Transfer())
        transfer.users += 1
        transfer.listeners += [progress] if progress else []
        try:
            # A second fetch waits; then the blob is here, or it resumes where the first ended.
            async with transfer.lock:
                return await self._fetch(_Wanted(digest, kind, size_max), holders, transfer)
        finally:
            transfer.users -= 1
            if progress:
                transfer.listeners.remove(progress)
            if not transfer.users:
                del self._transfers[digest]

    async def fetch_all(
        self,
        refs: Sequence[BlobRef],
        source: Holding,
        progress: Callable[[int], object] = lambda _: None,
    ) -> None:
        """Fetch all missing blobs; many small ones take hardly more round trips than one.

        `progress` gets the number of bytes that are here. Errors as of `fetch`; a blob whose size
        differs from its `ref` is also BlobUnavailable.
        """
        self._blobs.pin(source.owner, *(ref.digest for ref in refs))
        missing = [ref for ref in dict.fromkeys(refs) if not self._is_here(ref)]
        done = sum(ref.size for ref in refs) - sum(ref.size for ref in missing)
        for batch in _batches([ref for ref in missing if ref.size <= CHUNK]):
            await self._fetch_small(batch, source)
            done += sum(ref.size for ref in batch)
            progress(done)
        for ref in missing:
            if ref.size > CHUNK:
                tell = partial(_tell, progress, done)
                found = await self.fetch(ref.digest, [source.holder], source.kind, ref.size, tell)
                _require_size(found.size, ref)
                done += ref.size

    def _is_here(self, ref: BlobRef) -> bool:
        """Return whether a blob is here; BlobUnavailable if its size is wrong."""
        here = self._blobs.ref(ref.digest)
        if here is None or self._blobs.path(ref.digest) is None:
            return False
        _require_size(here.size, ref)
        return True

    async def _fetch_small(self, refs: Sequence[BlobRef], source: Holding) -> None:
        """Fetch blobs of at most one chunk over one stream, and store all of them or none."""
        size = sum(ref.size for ref in refs)
        if not self._blobs.can_hold(size):
            raise StorageFull(f"{size} bytes do not fit into the blob budget")
        try:
            async with self._session(source.holder) as session:
                contents = await session.whole(refs)
        except PeerFault as fault:
            self._blame(fault)
            raise BlobUnavailable(f"{source.holder}: {fault.why}") from None
        except (PeerUnreachable, BlobUnavailable) as error:
            raise BlobUnavailable(f"{source.holder}: {error}") from None
        sources = [
            BlobSource(partial(io.BytesIO, data), len(data), source.kind) for data in contents
        ]
        await self._blobs.put_all(sources, source.owner)

    async def _fetch(
        self, wanted: _Wanted, holders: Sequence[PeerId], transfer: _Transfer
    ) -> BlobRef:
        here = self._blobs.ref(wanted.digest)
        if here is not None and self._blobs.path(wanted.digest) is not None:
            if here.size > wanted.size_max:
                raise BlobUnavailable(f"{wanted} has {here.size} bytes, over {wanted.size_max}")
            return here
        failures: list[str] = []
        for holder in holders:
            try:
                return await self._fetch_from(holder, wanted, transfer)
            except PeerFault as fault:
                self._blame(fault)
                failures.append(f"{holder}: {fault.why}")
            except (PeerUnreachable, BlobUnavailable) as error:
                failures.append(f"{holder}: {error}")
        raise BlobUnavailable(f"{wanted}: {_told(failures)}")

    async def _fetch_from(self, holder: PeerId, wanted: _Wanted, transfer: _Transfer) -> BlobRef:
        async with self._session(holder) as session:
            size, hashes = await session.chunk_list(wanted, self._blobs.can_hold)
            ref = BlobRef(wanted.digest, size)
            async with self._blobs.partial(wanted.digest, size) as path:
                partial = await trio.to_thread.run_sync(Partial.resume, path, size, hashes)
                try:
                    await session.fill(partial, wanted.digest, transfer.report)
                finally:
                    partial.close()
                if partial.digest != wanted.digest:
                    path.unlink()
                    raise RuleBroken(holder, f"its chunk list does not match {wanted}")
                await self._blobs.adopt(Complete(path, ref, wanted.kind))
        return ref

    @asynccontextmanager
    async def _session(self, holder: PeerId) -> AsyncIterator["_Session"]:
        with patience(holder, self._patience_s):
            stream = Buffered(await self._open_stream(holder, PROTOCOL))
        whole = False
        try:
            yield _Session(stream, holder, self._patience_s)
            whole = True
        finally:
            # Also when cancelled: the holder should stop sending.
            with trio.CancelScope(deadline=trio.current_time() + 1, shield=True):
                await (stream.close() if whole else stream.reset())


@dataclass(frozen=True, slots=True)
class _Session:
    """Requests to one holder over one stream."""

    stream: FrameStream
    holder: PeerId
    patience_s: float

    async def chunk_list(
        self, wanted: _Wanted, can_hold: Callable[[int], bool]
    ) -> tuple[int, bytes]:
        """Return the size in bytes and the SHA-256 of each chunk, as the holder claims them.

        StorageFull if so many bytes would never fit: then the list is not read.
        """
        size = await self._ask(ListRequest(wanted.digest))
        if size > wanted.size_max:
            raise BlobUnavailable(f"claims {size} bytes, over the allowed {wanted.size_max}")
        if not can_hold(size):
            raise StorageFull(f"{wanted}: {size} bytes do not fit into the blob budget")
        hashes = bytearray()
        left = chunk_count(size)
        while left:
            expected = min(left, HASHES_PER_FRAME)
            hashes += await self._frame(32 * expected)
            left -= expected
        return size, bytes(hashes)

    async def whole(self, refs: Sequence[BlobRef]) -> list[bytes]:
        """Return blobs of at most one chunk each; many are requested before the first is read."""
        contents: list[bytes] = []
        for first in range(0, len(refs), AHEAD_MAX):
            ahead = refs[first : first + AHEAD_MAX]
            for request in [ChunkRequest(ref.digest, 0, 1) for ref in ahead if ref.size]:
                await self._send(request)
            contents += [await self._read_whole(ref) for ref in ahead]
        return contents

    async def _read_whole(self, ref: BlobRef) -> bytes:
        data = b""
        if ref.size:
            _require_size(await self._answer(), ref)
            data = await self._frame(ref.size)
        if digest_of(data) != ref.digest:
            raise RuleBroken(self.holder, f"its bytes do not match {_named(ref.digest)}")
        return data

    async def fill(self, partial: Partial, digest: Digest, report: Progress) -> None:
        """Fetch all missing chunks."""
        missing = range(partial.done, chunk_count(partial.size))
        report(partial.bytes_done, partial.size)
        for first in missing[::CHUNKS_PER_REQUEST_MAX]:
            count = min(CHUNKS_PER_REQUEST_MAX, missing.stop - first)
            if await self._ask(ChunkRequest(digest, first, count)) != partial.size:
                raise RuleBroken(self.holder, "it changed the blob's size")
            for number in range(first, first + count):
                chunk = await self._frame(partial.chunk_size(number))
                if not await trio.to_thread.run_sync(partial.append, chunk):
                    raise RuleBroken(self.holder, f"chunk {number} is not what its list says")
                report(partial.bytes_done, partial.size)

    async def _ask(self, request: ListRequest | ChunkRequest) -> int:
        """Return the blob's size in bytes; BlobUnavailable if the holder does not serve it."""
        await self._send(request)
        return await self._answer()

    async def _send(self, request: ListRequest | ChunkRequest) -> None:
        with patience(self.holder, self.patience_s):
            await send_frame(self.stream, encode_request(request))

    async def _answer(self) -> int:
        """Return the size in the next answer; BlobUnavailable if it is a refusal."""
        with patience(self.holder, self.patience_s):
            frame = await read_frame(self.stream, self.holder, MESSAGE_MAX)
        answer = decode_reply(self.holder, frame)
        match answer.status:
            case ReplyStatus.HERE:
                return answer.size
            case ReplyStatus.ABSENT:
                raise BlobUnavailable("does not have it")
            case ReplyStatus.BUSY:
                raise BlobUnavailable("is busy with other transfers")

    async def _frame(self, size: int) -> bytes:
        """Return the next frame, of exactly this size."""
        with patience(self.holder, self.patience_s):
            frame = await read_frame(self.stream, self.holder, CHUNK)
        if len(frame) != size:
            raise RuleBroken(self.holder, f"a frame of {len(frame)} bytes instead of {size}")
        return frame


def _batches(refs: Sequence[BlobRef]) -> Iterator[list[BlobRef]]:
    """Yield the blobs in groups that fit into memory."""
    batch: list[BlobRef] = []
    size = 0
    for ref in refs:
        if len(batch) == BATCH_MAX or size + ref.size > BATCH_BYTES_MAX:
            yield batch
            batch, size = [], 0
        batch.append(ref)
        size += ref.size
    if batch:
        yield batch


def _named(digest: Digest) -> str:
    return f"blob sha256:{digest.hex()[:12]}"


def _require_size(size: int, ref: BlobRef) -> None:
    if size != ref.size:
        raise BlobUnavailable(f"{_named(ref.digest)} has {size} bytes instead of {ref.size}")


def _tell(progress: Callable[[int], object], before: int, done: int, _size: int) -> None:
    progress(before + done)


def _told(failures: list[str]) -> str:
    """Return why all holders failed, in one line."""
    if not failures:
        return "no holder is known"
    more = len(failures) - FAILURES_TOLD_MAX
    rest = f"; and {more} more" if more > 0 else ""
    return "; ".join(failures[:FAILURES_TOLD_MAX]) + rest
