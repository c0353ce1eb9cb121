"""Stock: who reads waits for a lock. Repaired: nobody does, and the state is checked all the same.

Spec: specs/network.md.
"""

import pytest
import trio
from libp2p.network.stream import net_stream
from libp2p.network.stream.exceptions import StreamReset

from node.network.repairs import stream_state
from tests.node.network.repairs.stock import stock_function


class Muxed:
    """A stream of the muxer that has bytes."""

    muxed_conn = None

    async def read(self, n=None):
        await trio.lowlevel.checkpoint()
        return b"x"


async def hold(lock, task_status=trio.TASK_STATUS_IGNORED):
    async with lock:
        task_status.started()
        await trio.sleep_forever()


async def reads_while_locked(kind):
    """Say whether one task reads while another is at the lock."""
    stream, read = kind(Muxed(), None, None), b""
    async with trio.open_nursery() as nursery:
        await nursery.start(hold, stream._state_lock)
        with trio.move_on_after(0.05):
            read = await stream.read(1)
        nursery.cancel_scope.cancel()
    return read == b"x"


async def test_stock_waits():
    assert not await reads_while_locked(stock_function(net_stream, "NetStream"))


async def test_repaired_does_not():
    stream_state.apply()
    assert await reads_while_locked(net_stream.NetStream)


async def test_a_stream_that_was_reset_says_so():
    stream_state.apply()
    stream = net_stream.NetStream(Muxed(), None, None)
    await stream.set_state(net_stream.StreamState.RESET)
    with pytest.raises(StreamReset):
        await stream.read(1)


async def test_a_cancelled_reader_does_not_read():
    stream_state.apply()
    stream = net_stream.NetStream(Muxed(), None, None)
    with trio.CancelScope() as scope:
        scope.cancel()
        await stream.read(1)
    assert scope.cancelled_caught
