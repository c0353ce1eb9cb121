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
from node.network.muxer import BUFFERED_BYTES_MAX, SLACK_BYTES, RepairedYamux, _Buffers

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
        made.tune(Tuning(**tuning))
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


async def test_all_streams_together_are_limited(wire):
    connection = muxed(RepairedYamux, wire)
    streams = {}
    buffers = _Buffers(streams)
    share = yamux.DEFAULT_WINDOW_SIZE + SLACK_BYTES - 1
    with pytest.raises(trio.TooSlowError, match="flow control"):
        for number in range(2 * BUFFERED_BYTES_MAX // share):
            streams[number] = yamux.YamuxStream(number, connection, is_initiator=False)
            buffers[number] = bytearray()
            buffers[number].extend(bytes(share))
    assert sum(map(len, buffers.values())) <= BUFFERED_BYTES_MAX


async def test_a_frame_too_large_is_not_read(wire):
    with pytest.raises(trio.TooSlowError, match="too large"):
        await muxed(RepairedYamux, wire)._read_data_body(2 * 2**20)
