"""Writes wait for a slow reader.

Without this repair, a peer that reads nothing for five seconds (because of a slow disk, for
example) breaks our write to it. Each waiting write polls the window every 10 ms, so a peer that
never reads keeps us busy.

Repaired, a write waits for up to thirty seconds, or less if its caller's time-out is shorter, and
is woken when the window opens.

Spec: specs/network.md.
"""

import struct
from typing import Final
from weakref import WeakKeyDictionary

import trio
from libp2p.stream_muxer.exceptions import MuxedStreamError
from libp2p.stream_muxer.yamux import yamux

FRAME_BYTES_MAX: Final = 65_519  # With Noise's 16 bytes it is exactly one Noise record.
STALL_S: Final = 30.0
LOOK_S: Final = 0.5  # How soon a waiting write detects that its stream is closed.


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
    deadline = trio.current_time() + STALL_S
    while True:
        gone = stream.conn.event_shutting_down.is_set()
        if stream.send_closed or stream.closed or gone:
            raise MuxedStreamError("the stream is closed for writing")
        if stream.send_window > 0:
            return
        if trio.current_time() >= deadline:
            raise MuxedStreamError("the peer does not open its window")
        opened = _OPENED[stream] = trio.Event()
        try:
            with trio.move_on_after(LOOK_S):
                await opened.wait()
        finally:
            _OPENED.pop(stream, None)


_OPENED: Final[WeakKeyDictionary[yamux.YamuxStream, trio.Event]] = WeakKeyDictionary()
"""The streams with a write that waits; of each, one waits at a time."""


def _window(stream: yamux.YamuxStream) -> int:
    return int(vars(stream)["send_window"])


def _set_window(stream: yamux.YamuxStream, size: int) -> None:
    vars(stream)["send_window"] = size
    if size > 0 and (opened := _OPENED.pop(stream, None)) is not None:
        opened.set()


def apply() -> None:
    """Replace the stream's write, and signal when its window opens."""
    yamux.YamuxStream.write = write  # type: ignore[method-assign]
    yamux.YamuxStream.send_window = property(_window, _set_window)  # type: ignore[assignment]
