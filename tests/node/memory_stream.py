"""Streams in memory between nodes, instead of libp2p's.

Spec: specs/network.md.
"""

from collections.abc import Awaitable, Callable

import trio
import trio.testing

from protocol.values.errors import PeerFault, PeerUnreachable, Stale, Unavailable
from protocol.values.ids import PeerId

Handler = Callable[[PeerId, "MemoryStream"], Awaitable[None]]


class MemoryStream:
    """A ByteStream over one end of a pair of memory streams."""

    def __init__(self, peer: PeerId, end: trio.abc.HalfCloseableStream) -> None:
        self.peer = peer
        self._end = end
        self._rest = b""
        self.other = self
        self.was_reset = False

    async def read_exactly(self, size: int, /) -> bytes:
        data = b""
        while len(data) < size:
            piece = await self.wait_some(size - len(data))
            if not piece:
                raise PeerUnreachable("the stream ended too early")
            data += piece
        return data

    async def wait_some(self, size_max: int, /) -> bytes:
        try:
            self._rest = self._rest or bytes(await self._end.receive_some(65_536))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise PeerUnreachable("the stream broke") from error
        if self.was_reset:
            raise PeerUnreachable("the stream was reset")
        data, self._rest = self._rest[:size_max], self._rest[size_max:]
        return data

    read_some = wait_some

    async def write(self, data: bytes, /) -> None:
        try:
            await self._end.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise PeerUnreachable("the stream broke") from error

    async def close(self) -> None:
        try:
            await self._end.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise PeerUnreachable("the stream broke") from error

    async def reset(self) -> None:
        # Data in transit is lost, and the other side sees no clean end.
        for stream in (self, self.other):
            stream.was_reset = True
            stream._end.send_stream.close()
        self._end.receive_stream.close()
        await trio.lowlevel.checkpoint()


def memory_streams(opener: PeerId, server: PeerId) -> tuple[MemoryStream, MemoryStream]:
    """Return the two ends of a stream: the server's, then the opener's."""
    ours, theirs = trio.testing.memory_stream_pair()
    served, mine = MemoryStream(opener, theirs), MemoryStream(server, ours)
    served.other, mine.other = mine, served
    return served, mine


class MemoryStreams:
    """Streams between nodes, instead of libp2p's."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.handlers: dict[tuple[PeerId, str], Handler] = {}
        self.faults: list[PeerFault] = []
        self.opened: list[str] = []
        self.served: list[MemoryStream] = []
        """The server's ends of all opened streams."""
        self._nursery = nursery

    def opener(self, own: PeerId) -> Callable[[PeerId, str], Awaitable[MemoryStream]]:
        """Return the function that opens streams for a node."""

        async def open_stream(peer: PeerId, protocol: str) -> MemoryStream:
            await trio.lowlevel.checkpoint()
            handler = self.handlers.get((peer, protocol))
            self.opened.append(protocol)
            if handler is None:
                raise PeerUnreachable("no address answers")
            served, mine = memory_streams(own, peer)
            self.served.append(served)
            self._nursery.start_soon(self._serve, handler, own, served)
            return mine

        return open_stream

    async def _serve(self, handler: Handler, peer: PeerId, stream: MemoryStream) -> None:
        try:
            await handler(peer, stream)
            await stream.close()
        except PeerFault as fault:
            self.faults.append(fault)
            await stream.reset()
        except (Stale, Unavailable):
            await stream.reset()
