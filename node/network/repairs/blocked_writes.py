"""Writes wait for a slow reader.

Without this, a peer that reads nothing for five seconds (it writes to a slow disk, say)
breaks our write to it, and a write looks for room in the window only every 10 ms.

Repaired, a write waits for thirty seconds, or less if its caller's time-out says so, and looks
more often at first.

Spec: specs/network.md.
"""

import struct
from typing import Final

import trio
from libp2p.stream_muxer.exceptions import MuxedStreamError
from libp2p.stream_muxer.yamux import yamux

FRAME_BYTES_MAX: Final = 65_519  # With Noise's 16 bytes it is just one Noise record.
WAIT_MIN_S: Final = 0.0005
WAIT_MAX_S: Final = 0.05
STALL_S: Final = 30.0


async def write(self: yamux.YamuxStream, data: bytes) -> None:
    """Write all of the data, in frames as large as the peer's window allows."""
    async with self.rw_lock.write_lock():
        start = 0
        while start < len(data):
            await _wait_for_window(self)
            room = min(self.send_window, FRAME_BYTES_MAX - yamux.HEADER_SIZE)
            piece = data[start : start + room]
            self.send_window -= len(piece)
            head = struct.pack(
                yamux.YAMUX_HEADER_FORMAT, 0, yamux.TYPE_DATA, 0, self.stream_id, len(piece)
            )
            await self.conn._write_frame(head + piece)  # noqa: SLF001
            start += len(piece)


async def _wait_for_window(stream: yamux.YamuxStream) -> None:
    wait_s = WAIT_MIN_S
    deadline = trio.current_time() + STALL_S
    while True:
        gone = stream.conn.event_shutting_down.is_set()
        if stream.send_closed or stream.closed or gone:
            raise MuxedStreamError("the stream is closed for writing")
        if stream.send_window > 0:
            return
        if trio.current_time() >= deadline:
            raise MuxedStreamError("the peer does not open its window")
        await trio.sleep(wait_s)
        wait_s = min(2 * wait_s, WAIT_MAX_S)


def apply() -> None:
    """Replace the stream's write."""
    yamux.YamuxStream.write = write  # type: ignore[method-assign]
