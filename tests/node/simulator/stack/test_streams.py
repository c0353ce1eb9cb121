"""Bytes take their time on a line, come in order, and end or break with the stream.

Spec: specs/simulation.md#stack.
"""

import pytest
import trio

from node.simulator.stack.clock import VirtualClock
from node.simulator.stack.streams import STREAM_S, Line, stream_pair
from node.simulator.stack.trio_engine import TrioEngine
from protocol.values.errors import PeerUnreachable
from protocol.values.ids import PeerId

ADA, BEA = PeerId("ada"), PeerId("bea")


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.fixture
async def pair(clock, nursery):
    engine = TrioEngine(clock)
    nursery.start_soon(engine.pump)
    return stream_pair(engine, (ADA, Line(400, 100)), (BEA, Line(600, 50)))


async def test_bytes_leave_at_the_rate_and_arrive_after_the_latency(clock, pair):
    ours, theirs = pair
    assert (ours.peer, theirs.peer) == (BEA, ADA)
    await ours.write(b"x" * 10_050)
    assert clock.ticks == 100
    await ours.write(b"y" * 50)
    assert clock.ticks == 101
    assert await theirs.read_exactly(10_100) == b"x" * 10_050 + b"y" * 50
    assert clock.ticks == 501
    await theirs.write(b"z" * 5_000)
    assert (await ours.read_some(7), clock.ticks) == (b"z" * 7, 1_201)


async def test_an_end_comes_after_all_bytes(clock, pair):
    ours, theirs = pair
    await ours.write(b"abc")
    await ours.close()
    with pytest.raises(PeerUnreachable, match="3 of 4"):
        await theirs.read_exactly(4)
    assert await theirs.read_some(9) == b""
    await theirs.write(b"still")
    assert await ours.read_exactly(5) == b"still"


async def test_a_reset_breaks_both_ends_in_their_time(clock, pair):
    ours, theirs = pair
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.reset)
        with pytest.raises(PeerUnreachable):
            await theirs.wait_some(1)
    assert clock.ticks == 400
    for broken in (ours, theirs):
        for act in (broken.write(b"x"), broken.read_some(1), broken.close()):
            with pytest.raises(PeerUnreachable):
                await act


async def test_a_peer_that_does_nothing_is_given_up_but_not_when_idle(clock, pair):
    _, theirs = pair
    with pytest.raises(PeerUnreachable, match="30 s"):
        await theirs.read_some(1)
    assert clock.current_time() == STREAM_S
    with trio.move_on_after(3 * STREAM_S) as scope:
        await theirs.wait_some(1)
    assert scope.cancelled_caught


async def test_a_line_that_is_too_slow_breaks(clock, pair):
    with pytest.raises(PeerUnreachable, match="30 s"):
        await pair[0].write(bytes(100 * 10_000 * 31))
