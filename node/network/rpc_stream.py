"""The RPCs that come on a stream of gossip, as bytes: each with its length before it.

libp2p reads a length byte by byte, which costs as much as the rest of a small RPC. And what has
come of a large one is memory that no window bounds: few are read at a time.

Spec: specs/gossip.md#limits.
"""

from typing import Final

import trio
from libp2p.abc import INetStream
from libp2p.exceptions import ParseError
from libp2p.network.stream.exceptions import StreamEOF

RPC_BYTES_MAX: Final = 256 * 1024
SMALL_BYTES: Final = 16 * 1024  # All that our own peers send is.
LARGE_AT_ONCE_MAX: Final = 32
LARGE_S: Final = 10.0  # So long a large RPC may take to come: others wait for its place.
LENGTH_BYTES_MAX: Final = 3


class RpcStream:
    """Reads RPCs. `large` is for all streams of a node: its places are for large RPCs."""

    def __init__(self, stream: INetStream, large: trio.CapacityLimiter) -> None:
        self._stream = stream
        self._large = large
        self._buffer = bytearray()

    async def receive(self) -> bytes:
        """Return the next RPC.

        Raises ParseError if it is longer than RPC_BYTES_MAX, TooSlowError if it is large and does
        not come in time, and what the stream raises at its end.
        """
        while (size := self._length()) is None:
            await self._read_more()
        if size > RPC_BYTES_MAX:
            raise ParseError(f"an RPC of {size} bytes")
        if size <= SMALL_BYTES:
            return await self._read(size)
        async with self._large:
            with trio.fail_after(LARGE_S):
                return await self._read(size)

    def _length(self) -> int | None:
        """Take a length from the start of the buffer; None if it has not come yet."""
        length = 0
        for place, byte in enumerate(self._buffer[:LENGTH_BYTES_MAX]):
            length |= (byte & 0x7F) << (7 * place)
            if byte < 0x80:
                del self._buffer[: place + 1]
                return length
        if len(self._buffer) >= LENGTH_BYTES_MAX:
            raise ParseError("an RPC whose length is too long")
        return None

    async def _read(self, size: int) -> bytes:
        while len(self._buffer) < size:
            await self._read_more()
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    async def _read_more(self) -> None:
        piece = await self._stream.read(SMALL_BYTES)
        if not piece:
            raise StreamEOF
        self._buffer += piece
