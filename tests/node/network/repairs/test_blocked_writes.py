"""Stock: a reader that pauses for five seconds breaks the write. Repaired: it does not.

Spec: specs/network.md.
"""

import pytest
import trio
import trio.testing
from libp2p.stream_muxer.exceptions import MuxedStreamError
from libp2p.stream_muxer.yamux import yamux

from node.network.repairs import blocked_writes
from tests.node.network.repairs.stock import stock_function


class Connection:
    """Takes frames and remembers them."""

    def __init__(self):
        self.frames = []
        self.event_shutting_down = trio.Event()

    async def _write_frame(self, frame):
        self.frames.append(frame[yamux.HEADER_SIZE :])
        await trio.lowlevel.checkpoint()

    def rtt(self):
        return 0


def paused_stream():
    stream = yamux.YamuxStream(1, Connection(), is_initiator=True)
    stream.send_window = 0
    return stream


async def open_after(stream, seconds, window):
    await trio.sleep(seconds)
    stream.send_window = window


async def test_stock_breaks(autojump_clock):
    stock_write = stock_function(yamux, "YamuxStream.write")
    stream = paused_stream()
    with pytest.raises(MuxedStreamError):
        await stock_write(stream, b"late")


async def test_repaired_waits(autojump_clock):
    stream = paused_stream()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(open_after, stream, 6, 100)
        await blocked_writes.write(stream, b"late")
    assert stream.conn.frames == [b"late"]
    assert stream.send_window == 96


async def test_a_write_that_waits_is_woken_and_does_not_look_all_the_time(
    autojump_clock, monkeypatch
):
    blocked_writes.apply()
    looked = []
    stock = trio.move_on_after
    monkeypatch.setattr(trio, "move_on_after", lambda s: looked.append(s) or stock(s))
    stream = paused_stream()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(blocked_writes.write, stream, b"late")
        await trio.testing.wait_all_tasks_blocked()
        started_s = trio.current_time()
        stream.send_window += 100
    assert trio.current_time() == started_s
    assert len(looked) == 1
    assert not blocked_writes._OPENED


async def test_large_data_is_cut_to_frames_and_window():
    stream = paused_stream()
    stream.send_window = 200_000
    await blocked_writes.write(stream, bytes(150_000))
    assert sum(map(len, stream.conn.frames)) == 150_000
    assert max(map(len, stream.conn.frames)) == blocked_writes.FRAME_BYTES_MAX - 12


async def test_writes_at_once_do_not_mix(autojump_clock):
    stream = paused_stream()
    async with trio.open_nursery() as nursery:
        for letter in (b"a", b"b"):
            nursery.start_soon(blocked_writes.write, stream, letter * 200)
        for _ in range(4):
            await trio.sleep(0.2)
            stream.send_window += 100
    sent = b"".join(stream.conn.frames)
    assert sent in (b"a" * 200 + b"b" * 200, b"b" * 200 + b"a" * 200)


async def test_a_reader_that_never_reads_is_given_up(autojump_clock):
    with pytest.raises(MuxedStreamError):
        await blocked_writes.write(paused_stream(), b"never")


async def test_a_closed_stream_is_not_waited_for():
    stream = paused_stream()
    stream.send_closed = True
    with pytest.raises(MuxedStreamError):
        await blocked_writes.write(stream, b"x")
