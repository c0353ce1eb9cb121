"""Yamux that a hostile or dying peer cannot block, break or fill.

Three defects of libp2p's Yamux are repaired here by subclass: a write that is cancelled half-way
leaves half a Noise record on the wire, which breaks the connection for all of its streams; an
unanswered ping is not detected; unread bytes are stored without limit, within the windows and
beyond.

Spec: specs/network.md.
"""

import struct
from collections.abc import Callable
from typing import Any, Final

import trio
from libp2p.abc import IMuxedConn, ISecureConn
from libp2p.custom_types import TProtocol
from libp2p.io.utils import read_exactly
from libp2p.peer.id import ID
from libp2p.stream_muxer.exceptions import MuxedStreamError
from libp2p.stream_muxer.muxer_multistream import MuxerMultistream
from libp2p.stream_muxer.yamux import yamux

from node.network.interface import Tuning
from node.network.libp2p_errors import LIBP2P_ERRORS, contained
from node.network.receive_buffers import STREAM_BYTES, Overrun, ReceiveBuffers

PROTOCOL: Final = yamux.PROTOCOL_ID
STREAMS_MAX: Final = 256  # Per connection, including half-closed ones.
FRAME_BYTES_MAX: Final = yamux.DEFAULT_WINDOW_SIZE  # Most implementations send 64 KiB at most.
SLACK_BYTES: Final = 64 * 1024  # For a frame that crossed a window update.
GROWTH_BYTES_MAX: Final = 8 * 1024 * 1024
"""The most by which the windows of one connection grow together, and the size of one window: 640
Mbit/s from a peer that is 100 ms away. unread.PEER_BYTES_MAX leaves room beside it."""
ALL_GROWTH_BYTES_MAX: Final = 32 * 1024 * 1024
"""Of all connections: half of unread.TOTAL_BYTES_MAX, so honest peers do not reach that."""
LINGER_S: Final = 0.2  # For the last frame to a peer when we close.


class Muxer(MuxerMultistream):
    """Creates our Yamux on a secured connection, in place of libp2p's."""

    def __init__(self, tuning: Tuning, is_known: Callable[[ID], bool]) -> None:
        super().__init__(
            {TProtocol(PROTOCOL): RepairedYamux}, tuning.upgrade_timeout_ms // 1000 or 1
        )
        self._tuning = tuning
        self.unread = ReceiveBuffers(is_known)

    async def new_conn(self, conn: ISecureConn, peer_id: ID) -> IMuxedConn:
        protocol, _ = await self._selector.select(conn, conn.is_initiator, self.negotiate_timeout)
        muxed = RepairedYamux(conn, peer_id, is_initiator=conn.is_initiator)
        muxed.tune(self._tuning, self.unread)
        return self._annotate_connection(muxed, conn, protocol)


class RepairedYamux(yamux.Yamux):
    """One connection, shared by streams. A peer that breaks its rules loses it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._writing: trio.CancelScope | None = None
        self.tune(Tuning(), ReceiveBuffers(_nobody))

    def tune(self, tuning: Tuning, unread: ReceiveBuffers) -> None:
        """Set the durations of this connection, and the counter of its memory."""
        self._unread = unread
        self.stream_buffers = _Buffers(self, unread)
        self._stall_s = tuning.write_stall_ms / 1000
        self._ping_every_s = tuning.ping_every_ms / 1000
        self._ping_timeout_s = tuning.ping_timeout_ms / 1000

    async def start(self) -> None:
        """Run the connection until it is closed, whatever the peer sends."""
        self._unread.enter(self)
        try:
            with contained("yamux"):
                await super().start()
            if not self.is_closed:
                await self._cleanup_on_error()
        finally:
            self._unread.leave(self)

    def abandon(self) -> None:
        """Close the connection soon: its memory is needed."""
        self.event_shutting_down.set()
        with contained("closing a connection"):  # It may end by itself.
            if self._nursery is not None:
                self._nursery.start_soon(self._give_up)

    def may_grow(self, size: int) -> bool:
        """Say whether the window of a stream may grow by so many bytes."""
        of_all = self._unread.grown() + size
        return self.grown() + size <= GROWTH_BYTES_MAX and of_all <= ALL_GROWTH_BYTES_MAX

    def grown(self) -> int:
        """Return by how many bytes the windows of the streams have grown."""
        windows = [stream.target_recv_window for stream in self.streams.values()]
        return sum(windows) - len(windows) * yamux.DEFAULT_WINDOW_SIZE

    async def close(self, error_code: int = yamux.GO_AWAY_NORMAL) -> None:
        """Close at once, even if the peer accepts no more bytes."""
        self._stall_s = min(self._stall_s, LINGER_S)
        if self._writing is not None:
            self._writing.cancel()
        await super().close(error_code)

    async def _write_frame(self, data: bytes) -> None:
        # Shielded: a caller's time-out ends the wait for the lock, never a started frame.
        async with self._write_lock:
            deadline = trio.current_time() + self._stall_s
            with trio.CancelScope(shield=True, deadline=deadline) as scope:
                self._writing = scope
                await self.secured_conn.write(data)
            self._writing = None
            if scope.cancelled_caught:
                await self._give_up()
                raise MuxedStreamError("the peer takes no more bytes")

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
        except LIBP2P_ERRORS:
            self.event_shutting_down.set()
            return
        await self._ping_event.wait()

    def _finalize_stream_locked(self, stream: yamux.YamuxStream, *, fully_closed: bool) -> None:
        # Nobody reads the rest of a reset stream; libp2p keeps it for a minute or two.
        if fully_closed and stream.reset_received and stream.stream_id in self.stream_buffers:
            self.stream_buffers[stream.stream_id].clear()
        super()._finalize_stream_locked(stream, fully_closed=fully_closed)

    async def _read_data_body(self, length: int) -> bytes:
        if length > FRAME_BYTES_MAX:
            raise trio.TooSlowError("a frame is too large")  # libp2p closes the connection on it.
        # No time-out of its own: a peer that stops within a frame answers no ping either.
        return await read_exactly(self.secured_conn, length)

    async def _give_up(self) -> None:
        """Wake the reading task; it finds the end of file and closes the connection."""
        self.event_shutting_down.set()
        with trio.CancelScope(shield=True, deadline=trio.current_time() + LINGER_S):
            await self.secured_conn.close()


class _Buffers(dict[int, bytearray]):
    """The receive buffers of a connection: a stream's buffer holds no more than its window."""

    def __init__(self, connection: RepairedYamux, unread: ReceiveBuffers) -> None:
        super().__init__()
        self._connection = connection
        self._unread = unread

    def __setitem__(self, stream_id: int, value: bytearray) -> None:
        stream = self._connection.streams[stream_id]
        super().__setitem__(stream_id, _Buffer(stream, self.count))
        self.count(STREAM_BYTES)

    def count(self, change: int) -> None:
        """Count bytes that arrived or were read."""
        if change <= 0:
            self._unread.remove(self._connection, -change)
            return
        try:
            self._unread.add(self._connection, change)
        except Overrun as overrun:  # libp2p closes the connection on it.
            raise trio.TooSlowError(str(overrun)) from overrun

    def pop(self, stream_id: int, *default: Any) -> Any:
        """Discard a buffer with its content."""
        if stream_id in self:
            self.count(-len(self[stream_id]) - STREAM_BYTES)
        return super().pop(stream_id, *default)

    def __delitem__(self, stream_id: int) -> None:
        self.pop(stream_id)

    def clear(self) -> None:
        """Discard all buffers: the connection ends."""
        self._unread.leave(self._connection)
        super().clear()


class _Buffer(bytearray):
    def __init__(self, stream: yamux.YamuxStream, count: Callable[[int], None]) -> None:
        super().__init__()
        self._stream = stream
        self._count = count

    def extend(self, data: Any) -> None:
        size = len(self) + len(data)
        if size > self._stream.target_recv_window + SLACK_BYTES:
            raise trio.TooSlowError("flow control ignored")  # libp2p closes the connection on it.
        self._count(len(data))
        super().extend(data)

    def __delitem__(self, which: Any) -> None:
        before = len(self)
        super().__delitem__(which)
        self._count(len(self) - before)

    def clear(self) -> None:
        """Discard its content."""
        del self[:]


def _nobody(_peer_id: ID) -> bool:
    return False
