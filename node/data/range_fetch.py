"""The fetcher's side of bulk transfers: one blob, over several connections at once.

Each connection has a thread that writes what it receives into the file; another thread hashes the
file behind them.

Spec: specs/data.md#bulk-transfer.
"""

import hashlib
import os
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Any, Final

import trio

from node.data.blobs import BlobRef
from node.data.disk import full_disk_as_storage_full
from node.data.ranges import (
    BLOCK,
    RangeConnection,
    RangeRequest,
    ask_holders,
    receive_reply,
    send_request,
)
from node.data.segments import SEGMENT_MAX, Segment, Segments
from node.data.throttle import Throttle
from protocol.values.errors import BlobUnavailable, PeerFault, PeerUnreachable, StorageFull
from protocol.values.ids import Digest, PeerId

HOLDERS_MAX: Final = 4
ALONE_CONNECTIONS: Final = 2
"""To a single holder: one connection keeps one processor busy at each end."""
JOINED_BYTES_MIN: Final = 4 * SEGMENT_MAX
"""A smaller blob has come before others are found."""
AHEAD: Final = 4
"""Segments requested over a connection at a time: so no round trip is waited for."""

Call = Callable[[PeerId, Callable[[RangeConnection], Any]], Awaitable[Any]]
"""Runs work in a thread, on a bulk connection with a peer."""


Failure = PeerFault | PeerUnreachable | BlobUnavailable


@dataclass(slots=True)
class FetchedRanges:
    """What came of a fetch: the digest of the file if it is whole, and from whom its bytes came.

    `failures` are what ended a connection before.
    """

    digest: Digest | None = None
    resumed: int = 0
    holders: set[PeerId] = field(default_factory=set)
    failures: list[tuple[PeerId, Failure]] = field(default_factory=list)


class RangeFetch:
    """One blob's fetch into a file, which may have its first bytes already."""

    def __init__(
        self, ref: BlobRef, path: Path, report: Callable[[int, int], None], download: Throttle
    ) -> None:
        self._ref = ref
        self._path = path
        self._report = report
        self._download = download
        self._fetched = FetchedRanges()
        self._storage_full: StorageFull | None = None
        self._asked: set[PeerId] = set()
        """All holders of this fetch; empty if no others are wanted."""

    async def run(
        self, call: Call, holders: Sequence[PeerId], *, joins: bool = True
    ) -> FetchedRanges:
        """Fetch from all holders at once. What came without a gap stays in the file.

        The first one is asked for others that have the blob, unless `joins` is false. StorageFull
        if the disk is full.
        """
        self._first, self._call = holders[0], call
        if joins and self._ref.size >= JOINED_BYTES_MIN:
            self._asked.update(holders)
        with full_disk_as_storage_full(self._path.parent), _opened(self._path) as file:
            self._file = file.fileno()
            kept = os.fstat(self._file).st_size
            self._fetched.resumed = kept if kept <= self._ref.size else 0
            self._segments = Segments(self._ref.size, self._fetched.resumed)
            try:
                await self._run(_connections(holders, self._ref.size - kept))
            finally:
                os.ftruncate(self._file, self._segments.prefix)
        if self._storage_full is not None:
            raise self._storage_full
        return self._fetched

    async def _run(self, holders: Sequence[PeerId]) -> None:
        soon = trio.lowlevel.current_trio_token().run_sync_soon
        self._tell_soon = partial(soon, self._tell, idempotent=True)
        async with trio.open_nursery() as nursery:
            await nursery.start(self._end_when_cancelled)
            nursery.start_soon(self._fetch_all, holders)
            self._fetched.digest = await trio.to_thread.run_sync(self._hash)
            nursery.cancel_scope.cancel()
        self._tell()

    async def _end_when_cancelled(
        self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Wake the threads that wait for each other: they cannot be cancelled."""
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            self._segments.end()

    async def _fetch_all(self, holders: Sequence[PeerId]) -> None:
        async with trio.open_nursery() as nursery:
            self._fetching = nursery
            for holder in holders:
                nursery.start_soon(self._fetch_from, holder)
        self._segments.end()  # Whatever is missing now will not come.

    def _join(self, told: Sequence[PeerId]) -> None:
        """Fetch from holders that another one named, too."""
        for holder in [each for each in told if each not in self._asked]:
            if len(self._asked) < HOLDERS_MAX:
                self._asked.add(holder)
                self._fetching.start_soon(self._fetch_from, holder)

    async def _fetch_from(self, holder: PeerId) -> None:
        try:
            await self._call(holder, self._receive_all)
        except (PeerFault, PeerUnreachable, BlobUnavailable) as error:
            self._fetched.failures.append((holder, error))
        except StorageFull as error:
            self._storage_full = error
            self._segments.end()

    # --- in worker threads ----------------------------------------------------------------

    def _receive_all(self, connection: RangeConnection) -> None:
        """Fetch segments over a connection until none is missing."""
        if connection.peer == self._first and len(self._asked) == 1:
            told = ask_holders(connection, self._ref.digest)
            trio.from_thread.run_sync(self._join, told)
        block = memoryview(bytearray(BLOCK))
        ahead: deque[Segment] = deque()
        try:
            while True:
                while len(ahead) < AHEAD and (segment := self._segments.take(tuple(ahead))):
                    ahead.append(segment)
                    digest, offset, length = self._ref.digest, segment.offset, segment.length
                    send_request(connection, RangeRequest(digest, offset, length))
                if not ahead:
                    return
                self._receive(connection, ahead[0], block)
                self._segments.arrived(ahead.popleft())
        finally:
            for segment in ahead:
                self._segments.give_back(segment)

    def _receive(self, connection: RangeConnection, segment: Segment, block: memoryview) -> None:
        answer = receive_reply(connection)
        if answer.why_not:
            raise BlobUnavailable(answer.why_not)
        if answer.size != self._ref.size:
            raise BlobUnavailable(f"has {answer.size} bytes instead of {self._ref.size}")
        self._fetched.holders.add(connection.peer)
        done = 0
        while done < segment.length:
            piece = block[: min(BLOCK, segment.length - done)]
            connection.fill(piece)
            self._write(piece, segment.offset + done)
            done += len(piece)
            self._segments.came(segment, done)
            self._tell_soon()
            self._download.wait(len(piece))

    def _write(self, piece: memoryview, offset: int) -> None:
        with full_disk_as_storage_full(self._path.parent):
            while piece:
                count = os.pwrite(self._file, piece, offset)
                piece, offset = piece[count:], offset + count

    def _hash(self) -> Digest | None:
        """Return the digest of the whole file once it is here; None if it will not be."""
        block = memoryview(bytearray(BLOCK))
        whole, done = hashlib.sha256(), 0
        while done < self._ref.size:
            end = self._segments.wait_beyond(done)
            count = os.preadv(self._file, [block[: min(BLOCK, end - done)]], done) if end else 0
            if not count:
                return None
            whole.update(block[:count])
            done += count
        return Digest(whole.digest())

    def _tell(self) -> None:
        self._report(self._segments.received, self._ref.size)


def _connections(holders: Sequence[PeerId], size: int) -> list[PeerId]:
    """Return the holder of each connection to make."""
    if len(holders) == 1 and size > 2 * SEGMENT_MAX:
        return [*holders] * ALONE_CONNECTIONS
    return [*holders[:HOLDERS_MAX]]


def _opened(path: Path) -> FileIO:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    return FileIO(os.open(path, flags, 0o600), "r+")
