"""Streams of bytes with a peer.

Spec: specs/network.md.
"""

from typing import Final

import trio
from libp2p.abc import INetStream
from libp2p.network.stream.exceptions import StreamEOF
from libp2p.stream_muxer.yamux.yamux import Yamux

from node.network.libp2p_errors import contained, reaching
from protocol.values.errors import PeerUnreachable
from protocol.values.ids import PeerId

READ_BYTES_MAX: Final = 256 * 1024
CLOSE_S: Final = 2.0


class ByteStream:
    """One stream with a peer. Every operation ends within the time-out of the stream.

    One task may read while another writes; no two tasks may do the same at once.
    """

    def __init__(self, stream: INetStream, peer: PeerId, timeout_s: float) -> None:
        self.peer = peer
        self._stream = stream
        self._timeout_s = timeout_s

    async def read_some(self, size_max: int) -> bytes:
        """Return between 1 and size_max bytes, or none at the end of the stream.

        Raises PeerUnreachable if the stream breaks or nothing comes in time.
        """
        with reaching(self.peer), trio.fail_after(self._timeout_s):
            return await self._read(size_max)

    async def read_exactly(self, size: int) -> bytes:
        """Return exactly so many bytes; PeerUnreachable also if the stream ends before."""
        data = bytearray()
        while len(data) < size:
            piece = await self.read_some(min(size - len(data), READ_BYTES_MAX))
            if not piece:
                raise PeerUnreachable(f"{self.peer} ended after {len(data)} of {size} bytes")
            data += piece
        return bytes(data)

    async def wait_some(self, size_max: int) -> bytes:
        """Like read_some, but wait as long as the connection lives, for idle streams."""
        with reaching(self.peer):
            return await self._read(size_max)

    async def write(self, data: bytes) -> None:
        """Write all of the data. After PeerUnreachable the stream is unusable."""
        with reaching(self.peer), trio.fail_after(self._timeout_s):
            await self._stream.write(data)

    async def close(self) -> None:
        """Close the writing side; the peer sees the end of the stream. Reading continues."""
        with reaching(self.peer), trio.fail_after(CLOSE_S):
            await self._stream.close()

    async def reset(self) -> None:
        """Reset the stream in both directions. Never raises; works also when cancelled."""
        with contained("reset"), trio.CancelScope(shield=True) as scope:
            scope.deadline = trio.current_time() + CLOSE_S
            await self._stream.reset()

    async def _read(self, size_max: int) -> bytes:
        try:
            return await self._stream.read(size_max)
        except StreamEOF:
            # libp2p also reports this when the connection is lost, without a word from the peer.
            muxed = self._stream.muxed_conn
            if isinstance(muxed, Yamux) and muxed.event_shutting_down.is_set():
                raise
            return b""
