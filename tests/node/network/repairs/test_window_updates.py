"""Stock: each read of a byte sends a frame. Repaired: half a window does.

Spec: specs/network.md.
"""

import pytest
import trio
from libp2p.stream_muxer.yamux import yamux

from node.network.repairs import window_updates
from tests.node.network.repairs.stock import stock_function


class Connection:
    def __init__(self):
        self.frames = []
        self.stream_buffers = {1: bytearray()}

    async def _write_frame(self, frame):
        self.frames.append(frame)
        await trio.lowlevel.checkpoint()

    def rtt(self):
        return 0.001


async def read_bytes(open_window, count):
    """Receive and read so many single bytes; return how many frames that cost, and the stream."""
    stream = yamux.YamuxStream(1, Connection(), is_initiator=True)
    for _ in range(count):
        stream.recv_window -= 1
        await open_window(stream, bytes_read=1)
    return len(stream.conn.frames), stream


async def test_stock_sends_a_frame_for_each_byte():
    stock = stock_function(yamux, "YamuxStream._auto_tune_and_send_window_update")
    frames, _ = await read_bytes(stock, 100)
    assert frames == 100


async def test_repaired_sends_none_for_a_few_bytes():
    frames, _ = await read_bytes(window_updates.open_window, 100)
    assert frames == 0


@pytest.mark.parametrize("rounds", [1, 5])
async def test_the_window_never_runs_dry(rounds):
    stream = yamux.YamuxStream(1, Connection(), is_initiator=True)
    for _ in range(rounds * 8):
        stream.recv_window -= 32 * 1024
        assert stream.recv_window >= 0
        await window_updates.open_window(stream, bytes_read=32 * 1024)
    assert stream.conn.frames
    assert stream.recv_window <= stream.target_recv_window


async def test_unread_bytes_keep_the_window_shut():
    stream = yamux.YamuxStream(1, Connection(), is_initiator=True)
    stream.conn.stream_buffers[1] = bytearray(stream.recv_window)
    stream.recv_window = 0
    await window_updates.open_window(stream, bytes_read=0)
    assert stream.conn.frames == []
