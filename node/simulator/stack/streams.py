"""Streams of bytes between two nodes of a stack: latency, bandwidth, and breaks.

Each direction is a line of its own: bytes leave it one after the other, at the rate of the slower
end, and arrive after the latency. A writer waits until its bytes have left.
Spec: specs/simulation.md#stack.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import trio

from node.network.interface import Tuning
from node.simulator.stack.clock import TICKS_PER_S
from node.simulator.stack.trio_engine import TrioEngine
from protocol.values.errors import PeerUnreachable
from protocol.values.ids import PeerId

STREAM_S: Final = Tuning().stream_timeout_ms / 1000
"""One operation on a stream takes no longer, as over libp2p."""


@dataclass(frozen=True, slots=True)
class Line:
    """One direction between two nodes."""

    delay: int
    """Ticks."""
    rate: int
    """Bytes per tick."""


class StackStream:
    """One end of a stream; see node.network.streams.ByteStream. `stream_pair` makes two."""

    def __init__(self, peer: PeerId, engine: TrioEngine, line: Line) -> None:
        """Take the peer at the other end, and the line to it."""
        self.peer = peer
        self.other = self
        self.is_broken = False
        self._engine = engine
        self._line = line
        self._free = engine.clock.ticks
        """When all that was written will have left."""
        self._owed = 0
        """Bytes that took no whole tick yet."""
        self._unread = bytearray()
        self._has_ended = False
        self._news = trio.Event()

    async def read_exactly(self, size: int, /) -> bytes:
        """Return so many bytes; PeerUnreachable if the stream ends before."""
        data = bytearray()
        while len(data) < size:
            piece = await self.read_some(size - len(data))
            if not piece:
                raise PeerUnreachable(f"{self.peer} ended after {len(data)} of {size} bytes")
            data += piece
        return bytes(data)

    async def read_some(self, most: int, /) -> bytes:
        """Return 1 to `most` bytes, none at the end; PeerUnreachable if nothing comes in time."""
        with self._in_time():
            return await self.wait_some(most)

    async def wait_some(self, most: int, /) -> bytes:
        """Like `read_some`, but wait as long as it takes."""
        await trio.lowlevel.checkpoint()
        while not (self._unread or self._has_ended or self.is_broken):
            self._news = trio.Event()
            await self._news.wait()
        self._require_whole()
        data = bytes(self._unread[:most])
        del self._unread[:most]
        return data

    async def write(self, data: bytes, /) -> None:
        """Send bytes; return when they have left."""
        await trio.lowlevel.checkpoint()
        self._require_whole()
        ticks, self._owed = divmod(self._owed + len(data), self._line.rate)
        self._free = max(self._free, self._engine.clock.ticks) + ticks
        self._send(self.other.arrive, bytes(data))
        with self._in_time():
            await trio.sleep_until(self._free / TICKS_PER_S)
        self._require_whole()

    async def close(self) -> None:
        """Say that no more will be written."""
        await trio.lowlevel.checkpoint()
        self._require_whole()
        self._send(self.other.end)

    async def reset(self) -> None:
        """Break the stream off, both ways."""
        self.cut()
        with trio.CancelScope(shield=True):
            await trio.lowlevel.checkpoint()

    def cut(self) -> None:
        """Break this end now, and the other when it hears of it."""
        if not self.is_broken:
            self.break_off()
            tick = self._engine.clock.ticks + self._line.delay
            self._engine.at(tick, self.other.break_off)

    # --- what the other end does here -----------------------------------------------------

    def arrive(self, data: bytes) -> None:
        """Take bytes."""
        self._unread += data
        self._news.set()

    def end(self) -> None:
        """Learn that no more will come."""
        self._has_ended = True
        self._news.set()

    def break_off(self) -> None:
        """Learn that the stream is broken."""
        self.is_broken = True
        self._news.set()

    def _send(self, call: Callable[..., object], *arguments: bytes) -> None:
        tick = max(self._free, self._engine.clock.ticks) + self._line.delay
        self._engine.at(tick, call, *arguments)

    def _require_whole(self) -> None:
        if self.is_broken:
            raise PeerUnreachable(f"the stream with {self.peer} is broken")

    @contextmanager
    def _in_time(self) -> Iterator[None]:
        try:
            with trio.fail_after(STREAM_S):
                yield
        except trio.TooSlowError:
            raise PeerUnreachable(f"{self.peer} did nothing for {STREAM_S:g} s") from None


def stream_pair(
    engine: TrioEngine, opener: tuple[PeerId, Line], server: tuple[PeerId, Line]
) -> tuple[StackStream, StackStream]:
    """Return the opener's end and the server's. Each side comes with the line from it."""
    ours = StackStream(server[0], engine, opener[1])
    theirs = StackStream(opener[0], engine, server[1])
    ours.other, theirs.other = theirs, ours
    return ours, theirs
