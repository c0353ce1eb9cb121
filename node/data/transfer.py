"""The fetcher's side of the blob protocol: verifies every chunk, resumes, tries all holders.

Spec: specs/data.md#transfer.
"""

import io
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import trio

from node.data.blobs import BlobRef, Blobs, BlobSource, Complete
from node.data.frames import (
    CHUNK,
    PROTOCOL,
    Buffered,
    FrameStream,
    patience,
)
from node.data.partial import Partial
from node.data.range_fetch import Call, FetchedRanges, RangeFetch
from node.data.serving import BlobServer
from node.data.session import Progress, Session, Wanted, named, require_size
from node.data.throttle import Throttle
from protocol.values.errors import (
    BlobUnavailable,
    PeerFault,
    PeerUnreachable,
    RuleBroken,
    StorageFull,
)
from protocol.values.ids import Digest, PeerId

__all__ = ["PROTOCOL", "BlobFetcher", "BlobServer", "FrameStream", "Holding", "Ways"]

LOG: Final = logging.getLogger(__name__)
BATCH_MAX: Final = 4096
BATCH_BYTES_MAX: Final = 16 * CHUNK
"""Small blobs to hold in memory until they are written together."""
BULK_MIN: Final = 4 * CHUNK
"""A smaller blob comes over a stream in less time than a bulk connection takes to be made."""
FAILURES_TOLD_MAX: Final = 3
"""Holders whose failure BlobUnavailable names in its line."""


def log_fault(fault: PeerFault) -> None:
    """Blame a peer in the log only; the daemon gives the network's `blame` instead."""
    LOG.warning("peer at fault: %s", fault)


@dataclass(frozen=True, slots=True)
class Holding:
    """The holder of blobs, their kind, and the owner of their pins here.

    `others` are asked for large blobs, too.
    """

    holder: PeerId
    kind: str
    owner: str
    others: tuple[PeerId, ...] = ()


@dataclass(slots=True)
class _Transfer:
    """Shared by all concurrent fetches of one digest; one of them holds the lock."""

    lock: trio.Lock = field(default_factory=trio.Lock)
    listeners: list[Progress] = field(default_factory=list)
    users: int = 0

    def report(self, done: int, size: int) -> None:
        for listener in self.listeners:
            listener(done, size)


@dataclass(frozen=True, slots=True)
class Ways:
    """How a node reaches holders: by streams, and by bulk connections if it can."""

    open_stream: Callable[[PeerId, str], Awaitable[FrameStream]]
    call: Call | None = None


class BlobFetcher:
    """Fetches blobs from peers into `blobs`.

    `blame` is called for each fault of a holder, `patience_s` limits each wait for a holder: a
    stream, an answer, a chunk.
    """

    def __init__(
        self,
        blobs: Blobs,
        ways: Ways,
        blame: Callable[[PeerFault], None] = log_fault,
        download: Throttle | None = None,
        patience_s: float = 30,
    ) -> None:
        self._blobs = blobs
        self._ways = ways
        self._blame = blame
        self._download = download or Throttle(0)
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
        return await self._share(Wanted(digest, kind, size_max), holders, progress)

    async def _share(
        self, wanted: Wanted, holders: Sequence[PeerId], progress: Progress | None
    ) -> BlobRef:
        """Fetch a blob, once for all who want it at the same time."""
        transfer = self._transfers.setdefault(wanted.digest, _Transfer())
        transfer.users += 1
        transfer.listeners += [progress] if progress else []
        try:
            # A second fetch waits; then the blob is here, or it resumes where the first ended.
            async with transfer.lock:
                return await self._fetch(wanted, holders, transfer)
        finally:
            transfer.users -= 1
            if progress:
                transfer.listeners.remove(progress)
            if not transfer.users:
                del self._transfers[wanted.digest]

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
                wanted = Wanted(ref.digest, source.kind, ref.size, ref.size)
                found = await self._share(wanted, [source.holder, *source.others], tell)
                require_size(found.size, ref)
                done += ref.size

    def _is_here(self, ref: BlobRef) -> bool:
        """Return whether a blob is here; BlobUnavailable if its size is wrong."""
        here = self._blobs.ref(ref.digest)
        if here is None or self._blobs.path(ref.digest) is None:
            return False
        require_size(here.size, ref)
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
        self, wanted: Wanted, holders: Sequence[PeerId], transfer: _Transfer
    ) -> BlobRef:
        here = self._blobs.ref(wanted.digest)
        if here is not None and self._blobs.path(wanted.digest) is not None:
            if here.size > wanted.size_max:
                raise BlobUnavailable(f"{wanted} has {here.size} bytes, over {wanted.size_max}")
            return here
        failures: list[str] = []
        if wanted.size is not None and wanted.size >= BULK_MIN:
            ref = BlobRef(wanted.digest, wanted.size)
            if await self._fetch_in_bulk(ref, wanted.kind, holders, transfer):
                return ref
        for holder in holders:
            try:
                return await self._fetch_from(holder, wanted, transfer)
            except PeerFault as fault:
                self._blame(fault)
                failures.append(f"{holder}: {fault.why}")
            except (PeerUnreachable, BlobUnavailable) as error:
                failures.append(f"{holder}: {error}")
        raise BlobUnavailable(f"{wanted}: {_told(failures)}")

    async def _fetch_in_bulk(
        self, ref: BlobRef, kind: str, holders: Sequence[PeerId], transfer: _Transfer
    ) -> bool:
        """Return whether the blob came over bulk connections; if not, streams resume it."""
        if self._ways.call is None or not self._blobs.can_hold(ref.size):
            return False
        async with self._blobs.partial(ref.digest, ref.size) as path:
            fetched = await self._run_ranges(ref, path, holders, transfer)
            if _is_wrong(fetched, ref) and len(fetched.holders) > 1:
                path.unlink()  # Whoever is at fault, the first holder alone can do without it.
                fetched = await self._run_ranges(ref, path, holders[:1], transfer, joins=False)
            if fetched.digest == ref.digest:
                await self._blobs.adopt(Complete(path, ref, kind))
                return True
            if _is_wrong(fetched, ref):
                path.unlink()
                if len(fetched.holders) == 1 and not fetched.resumed:
                    why = f"its bytes do not match {named(ref.digest)}"
                    self._blame(RuleBroken(fetched.holders.pop(), why))
        return False

    async def _run_ranges(
        self,
        ref: BlobRef,
        path: Path,
        holders: Sequence[PeerId],
        transfer: _Transfer,
        *,
        joins: bool = True,
    ) -> FetchedRanges:
        assert self._ways.call is not None
        fetch = RangeFetch(ref, path, transfer.report, self._download)
        fetched = await fetch.run(self._ways.call, holders, joins=joins)
        for holder, failure in fetched.failures:
            LOG.debug("bulk transfer of %s from %s: %s", named(ref.digest), holder, failure)
            if isinstance(failure, PeerFault):
                self._blame(failure)
        return fetched

    async def _fetch_from(self, holder: PeerId, wanted: Wanted, transfer: _Transfer) -> BlobRef:
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
    async def _session(self, holder: PeerId) -> AsyncIterator["Session"]:
        with patience(holder, self._patience_s):
            stream = Buffered(await self._ways.open_stream(holder, PROTOCOL))
        whole = False
        try:
            yield Session(stream, holder, self._download, self._patience_s)
            whole = True
        finally:
            # Also when cancelled: the holder should stop sending.
            with trio.CancelScope(deadline=trio.current_time() + 1, shield=True):
                await (stream.close() if whole else stream.reset())


def _is_wrong(fetched: FetchedRanges, ref: BlobRef) -> bool:
    return fetched.digest not in {None, ref.digest}


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


def _tell(progress: Callable[[int], object], before: int, done: int, _size: int) -> None:
    progress(before + done)


def _told(failures: list[str]) -> str:
    """Return why all holders failed, in one line."""
    if not failures:
        return "no holder is known"
    more = len(failures) - FAILURES_TOLD_MAX
    rest = f"; and {more} more" if more > 0 else ""
    return "; ".join(failures[:FAILURES_TOLD_MAX]) + rest
