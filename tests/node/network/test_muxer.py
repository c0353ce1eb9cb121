"""Yamux bears time-outs, silence and floods; the same is done to libp2p's for comparison.

Spec: specs/network.md.
"""

import pytest
import trio
import trio.testing
from libp2p.peer.id import ID
from libp2p.stream_muxer.exceptions import MuxedStreamError
from libp2p.stream_muxer.yamux import yamux

from node.network.interface import Tuning
from node.network.muxer import (
    ALL_GROWTH_BYTES_MAX,
    FRAME_BYTES_MAX,
    GROWTH_BYTES_MAX,
    RepairedYamux,
)
from node.network.receive_buffers import (
    PEER_BYTES_MAX,
    STREAM_BYTES,
    TOTAL_BYTES_MAX,
    ReceiveBuffers,
)
from node.network.repairs import window_growth

PEER = ID(b"\x12\x20" + bytes(32))


class Wire:
    """A secured connection over a memory stream; it can be made to take only half of a write."""

    is_initiator = True

    def __init__(self, stream):
        self.stream = stream
        self.written = bytearray()
        self.go_on = trio.Event()
        self.go_on.set()

    async def write(self, data):
        self.written += data[: len(data) // 2]
        await trio.lowlevel.checkpoint()
        await self.go_on.wait()
        self.written += data[len(data) // 2 :]
        await self.stream.send_all(data)

    async def read(self, n=None):
        try:
            return bytes(await self.stream.receive_some(n))
        except trio.ClosedResourceError:
            return b""

    async def close(self):
        await self.stream.aclose()


@pytest.fixture
def wire():
    here, there = trio.testing.memory_stream_pair()
    made = Wire(here)
    made.other = there
    return made


def muxed(kind, wire, **tuning):
    async def on_close():
        await trio.lowlevel.checkpoint()

    made = kind(wire, PEER, is_initiator=True, on_close=on_close)
    if kind is RepairedYamux:
        made.tune(Tuning(**tuning), ReceiveBuffers(lambda peer_id: False))
        made._unread.enter(made)
    return made


@pytest.mark.parametrize("kind, is_whole", [(yamux.Yamux, False), (RepairedYamux, True)])
async def test_a_cancelled_write_leaves_whole_frames_only(wire, kind, is_whole):
    connection = muxed(kind, wire)
    wire.go_on = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection._write_frame, bytes(100))
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(release, wire)
        nursery.cancel_scope.cancel()
    assert (len(wire.written) == 100) is is_whole


async def release(wire):
    with trio.CancelScope(shield=True):
        await trio.testing.wait_all_tasks_blocked()
        wire.go_on.set()


@pytest.mark.parametrize("kind, is_noticed", [(yamux.Yamux, False), (RepairedYamux, True)])
async def test_silence_is_noticed(wire, kind, is_noticed, autojump_clock):
    connection = muxed(kind, wire, ping_every_ms=10_000, ping_timeout_ms=5_000)
    started_s = trio.current_time()
    with trio.move_on_after(60):
        await connection.start()
    assert connection.is_closed is is_noticed
    # The first ping after half a second, and nothing within five.
    assert (trio.current_time() - started_s < 0.5 + 5 + 0.5) is is_noticed


async def test_a_peer_that_answers_pings_is_kept(wire, autojump_clock):
    here, there = muxed(RepairedYamux, wire), muxed(RepairedYamux, Wire(wire.other))
    with trio.move_on_after(120):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(here.start)
            nursery.start_soon(there.start)
    assert not here.is_closed


async def test_a_write_that_is_never_taken_ends_the_connection(wire, autojump_clock):
    connection = muxed(RepairedYamux, wire, write_stall_ms=1_000)
    wire.go_on = trio.Event()
    with pytest.raises(MuxedStreamError), trio.fail_after(5):
        await connection._write_frame(bytes(100))
    assert connection.event_shutting_down.is_set()


async def test_closing_does_not_wait_for_a_stalled_write(wire, autojump_clock):
    connection = muxed(RepairedYamux, wire)
    wire.go_on = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(expect_failure, connection)
        await trio.testing.wait_all_tasks_blocked()
        started_s = trio.current_time()
        await connection.close()
        assert trio.current_time() - started_s < 2


async def expect_failure(connection):
    with pytest.raises(MuxedStreamError):
        await connection._write_frame(bytes(100))


async def buffered_by(kind, wire):
    """Flood one stream; return how many bytes are kept."""
    connection = muxed(kind, wire)
    stream = await connection.open_stream()
    buffer = connection.stream_buffers[stream.stream_id]
    for _ in range(1000):
        buffer.extend(bytes(60_000))
    return len(buffer)


async def test_stock_keeps_all_of_a_flood(wire):
    assert await buffered_by(yamux.Yamux, wire) == 60_000_000


async def test_ours_ends_a_flood(wire):
    with pytest.raises(trio.TooSlowError, match="flow control"):
        await buffered_by(RepairedYamux, wire)


def filled(connection, number, size):
    """Open a peer's stream of a connection with so many unread bytes."""
    connection.streams[number] = yamux.YamuxStream(number, connection, is_initiator=False)
    connection.stream_buffers[number] = bytearray()
    connection.stream_buffers[number].extend(bytes(size))


async def test_all_streams_together_are_limited(wire):
    connection = muxed(RepairedYamux, wire)
    share = yamux.DEFAULT_WINDOW_SIZE
    with pytest.raises(trio.TooSlowError, match="too much memory"):
        for number in range(2 * PEER_BYTES_MAX // share):
            filled(connection, number, share)
    assert sum(map(len, connection.stream_buffers.values())) <= PEER_BYTES_MAX


async def test_what_is_read_or_given_up_counts_no_more(wire):
    connection = muxed(RepairedYamux, wire)
    for number in range(4):
        filled(connection, number, 1000)
    unread = connection._unread
    assert unread.total == 4 * (1000 + STREAM_BYTES)
    assert await connection.read_stream(0, 400) == bytes(400)
    assert unread.total == 4 * (1000 + STREAM_BYTES) - 400
    assert await connection.read_stream(0) == bytes(600)
    assert unread.total == 3 * 1000 + 4 * STREAM_BYTES
    await connection.streams[1].reset()
    assert unread.total == 2 * 1000 + 3 * STREAM_BYTES
    del connection.stream_buffers[2]
    assert unread.total == 1000 + 2 * STREAM_BYTES
    connection.stream_buffers.clear()
    assert unread.total == 0


async def test_a_stream_that_the_peer_reset_keeps_no_bytes(wire, autojump_clock):
    here, there = muxed(RepairedYamux, wire), muxed(yamux.Yamux, Wire(wire.other))
    there.is_initiator_value, there.next_stream_id = False, 2
    async with trio.open_nursery() as nursery:
        nursery.start_soon(here.start)
        nursery.start_soon(there.start)
        stream = await there.open_stream()
        await stream.write(bytes(100_000))
        await stream.reset()
        await trio.sleep(20)  # By this clock, a moment. Stock keeps them for a minute, at least.
        assert here._established
        assert not here.stream_buffers
        nursery.cancel_scope.cancel()


def give(unread, connection, size):
    connection._unread = unread
    connection.stream_buffers._unread = unread
    unread.enter(connection)
    for number in range(-(-size // yamux.DEFAULT_WINDOW_SIZE)):
        filled(connection, number, yamux.DEFAULT_WINDOW_SIZE)


async def test_a_connection_that_gives_way_ends(wire):
    unread = ReceiveBuffers(lambda peer_id: False)
    connection = muxed(RepairedYamux, wire)
    give(unread, connection, PEER_BYTES_MAX // 2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.start)
        await connection.event_started.wait()
        connection.abandon()
        await connection.event_closed.wait()
    assert unread.total == 0
    assert not connection.stream_buffers


async def test_windows_grow_for_our_own_streams_and_to_a_limit(wire, monkeypatch):
    window_growth.apply()
    connection = muxed(RepairedYamux, wire)
    theirs = yamux.YamuxStream(2, connection, is_initiator=False)
    assert theirs._apply_autotune_epoch(0) == 0
    for _ in range(4):
        stream = await connection.open_stream()
        for _ in range(20):
            stream._apply_autotune_epoch(0)
    assert 0 < connection.grown() <= GROWTH_BYTES_MAX
    assert connection.streams[1].target_recv_window == GROWTH_BYTES_MAX
    monkeypatch.setattr(connection._unread, "grown", lambda: ALL_GROWTH_BYTES_MAX)
    connection.streams[1].target_recv_window = yamux.DEFAULT_WINDOW_SIZE
    assert connection.streams[1]._apply_autotune_epoch(0) == 0


def test_what_honest_peers_may_send_does_not_reach_the_limits():
    assert GROWTH_BYTES_MAX + 8 * (yamux.DEFAULT_WINDOW_SIZE + STREAM_BYTES) < PEER_BYTES_MAX
    assert 2 * ALL_GROWTH_BYTES_MAX <= TOTAL_BYTES_MAX
    assert FRAME_BYTES_MAX >= yamux.DEFAULT_WINDOW_SIZE


async def test_a_frame_too_large_is_not_read(wire):
    with pytest.raises(trio.TooSlowError, match="too large"):
        await muxed(RepairedYamux, wire)._read_data_body(2 * 2**20)
