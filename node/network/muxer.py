"""Yamux that a hostile or a dying peer cannot hang, break or fill.

Three defects of libp2p's Yamux are repaired here by subclass (network.md, 1 and 7): a write
that is cancelled half-way leaves half a Noise record on the wire, and the connection is broken
for all of its streams; a ping that is never answered is not noticed; bytes beyond the receive
window are kept, however many.

Spec: specs/network.md.
"""

import struct
from collections.abc import Sized
from typing import Any, Final

import trio
from libp2p.abc import IMuxedConn, ISecureConn
from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID
from libp2p.stream_muxer.exceptions import MuxedStreamError
from libp2p.stream_muxer.muxer_multistream import MuxerMultistream
from libp2p.stream_muxer.yamux import yamux

from node.network.foreign import FOREIGN, contained
from node.network.interface import Tuning

PROTOCOL: Final = yamux.PROTOCOL_ID
STREAMS_MAX: Final = 256  # Of one connection, half-closed ones included.
FRAME_BYTES_MAX: Final = 1024 * 1024  # No implementation sends frames beyond 64 KiB.
SLACK_BYTES: Final = 64 * 1024  # A frame that crossed a window update on the way.
BUFFERED_BYTES_MAX: Final = 32 * 1024 * 1024  # All streams of one connection together.
LINGER_S: Final = 0.2  # For the farewell to a peer when we close.


class Muxer(MuxerMultistream):
    """Makes our Yamux of a secured connection; libp2p's would make its own."""

    def __init__(self, tuning: Tuning) -> None:
        super().__init__(
            {TProtocol(PROTOCOL): RepairedYamux}, tuning.upgrade_timeout_ms // 1000 or 1
        )
        self._tuning = tuning

    async def new_conn(self, conn: ISecureConn, peer_id: ID) -> IMuxedConn:
        protocol, _ = await self._selector.select(conn, conn.is_initiator, self.negotiate_timeout)
        muxed = RepairedYamux(conn, peer_id, is_initiator=conn.is_initiator)
        muxed.tune(self._tuning)
        return self._annotate_connection(muxed, conn, protocol)


class RepairedYamux(yamux.Yamux):
    """One connection, shared by streams. A peer that breaks its rules loses it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.stream_buffers = _Buffers(self.streams)
        self._writing: trio.CancelScope | None = None
        self.tune(Tuning())

    def tune(self, tuning: Tuning) -> None:
        """Set the durations of this connection."""
        self._stall_s = tuning.write_stall_ms / 1000
        self._ping_every_s = tuning.ping_every_ms / 1000
        self._ping_timeout_s = tuning.ping_timeout_ms / 1000

    async def start(self) -> None:
        """Run the connection until it is closed, whatever the peer sends."""
        with contained("yamux") as run:
            await super().start()
        if run.failed:
            await self._cleanup_on_error()

    async def close(self, error_code: int = yamux.GO_AWAY_NORMAL) -> None:
        """Close at once, also when the peer takes no more bytes."""
        self._stall_s = min(self._stall_s, LINGER_S)
        if self._writing is not None:
            self._writing.cancel()
        await super().close(error_code)

    async def _write_frame(self, data: bytes) -> None:
        # Shielded: a caller's time-out ends the wait for its turn, never a frame that has begun.
        async with self._write_lock:
            deadline = trio.current_time() + self._stall_s
            with trio.CancelScope(shield=True, deadline=deadline) as scope:
                self._writing = scope
                await self.secured_conn.write(data)
            self._writing = None
            if scope.cancelled_caught:
                await self._give_up()
                raise MuxedStreamError("the peer takes no more bytes")
        await trio.lowlevel.checkpoint()

    async def _measure_rtt_loop(self) -> None:
        # libp2p calls this once for each connection.
        await trio.sleep(min(0.5, self._ping_every_s))
        while not self.event_shutting_down.is_set():
            with trio.move_on_after(self._ping_timeout_s) as scope:
                await self._ping()
            if scope.cancelled_caught or self.event_shutting_down.is_set():
                await self._give_up()
                return
            with trio.move_on_after(self._ping_every_s):
                await self.event_shutting_down.wait()

    async def _ping(self) -> None:
        self._ping_id = (self._ping_id + 1) % 2**32
        self._ping_event = trio.Event()
        self._ping_sent_time = trio.current_time()
        frame = struct.pack(
            yamux.YAMUX_HEADER_FORMAT, 0, yamux.TYPE_PING, yamux.FLAG_SYN, 0, self._ping_id
        )
        try:
            await self._write_frame(frame)
        except FOREIGN:
            self.event_shutting_down.set()
            return
        await self._ping_event.wait()

    async def _read_data_body(self, length: int) -> bytes:
        if length > FRAME_BYTES_MAX:
            raise trio.TooSlowError("a frame is too large")  # libp2p closes the connection on it.
        return await super()._read_data_body(length)

    async def _give_up(self) -> None:
        """Wake the task that reads; finding the end of file, it takes the connection down."""
        self.event_shutting_down.set()
        with trio.CancelScope(shield=True, deadline=trio.current_time() + LINGER_S):
            await self.secured_conn.close()


class _Buffers(dict[int, bytearray]):
    """The receive buffers of a connection: a stream's buffer takes no more than its window."""

    def __init__(self, streams: dict[int, yamux.YamuxStream]) -> None:
        super().__init__()
        self._streams = streams

    def __setitem__(self, stream_id: int, value: bytearray) -> None:
        super().__setitem__(stream_id, _Buffer(self._streams[stream_id], self))


class _Buffer(bytearray):
    def __init__(self, stream: yamux.YamuxStream, siblings: dict[int, bytearray]) -> None:
        super().__init__()
        self._stream = stream
        self._siblings = siblings

    def extend(self, data: Any) -> None:
        size = len(self) + len(data)
        overrun = size > self._stream.target_recv_window + SLACK_BYTES
        if size > SLACK_BYTES:  # A connection with small buffers is far from its limit.
            overrun |= _total(self._siblings) + len(data) > BUFFERED_BYTES_MAX
        if overrun:
            raise trio.TooSlowError("flow control ignored")  # libp2p closes the connection on it.
        super().extend(data)


def _total(buffers: dict[int, bytearray]) -> int:
    lengths: list[Sized] = list(buffers.values())
    return sum(len(buffer) for buffer in lengths)
