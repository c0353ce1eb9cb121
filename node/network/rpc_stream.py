"""Reads length-prefixed RPCs from a gossip stream.

libp2p reads a length byte by byte, which costs as much as the rest of a small RPC. The received
part of a large RPC is memory that no window limits, so only a few are read at a time.

Spec: specs/gossip.md#limits.
"""

from typing import Final

import trio
from libp2p.abc import INetStream
from libp2p.exceptions import ParseError
from libp2p.network.stream.exceptions import StreamEOF

RPC_BYTES_MAX: Final = 256 * 1024
SMALL_BYTES: Final = 16 * 1024  # The most that our own nodes send.
LARGE_AT_ONCE_MAX: Final = 32
LARGE_S: Final = 10.0  # The longest time for a large RPC: others wait for its slot.
LENGTH_BYTES_MAX: Final = 3


class RpcStream:
    """Reads RPCs. `large` limits the large RPCs of all streams of a node."""

    def __init__(self, stream: INetStream, large: trio.CapacityLimiter) -> None:
        self._stream = stream
        self._large = large
        self._buffer = bytearray()

    async def receive(self) -> bytes:
        """Return the next RPC.

        Raises ParseError if it is longer than RPC_BYTES_MAX, TooSlowError if it is large and
        arrives too slowly, and the stream's error at its end.
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
        """Take a length from the start of the buffer; None if it has not arrived yet."""
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
