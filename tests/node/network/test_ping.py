"""A round trip cannot look shorter than it is.

Spec: specs/network.md#messages.
"""

import pytest
import trio

from node.network import ping
from protocol.values.errors import PeerUnreachable
from protocol.values.ids import PeerId
from tests.node.network.fixtures import open_node, until


class Echo:
    """The stream to a peer that echoes what it got, after a while each time."""

    peer = PeerId("peer")

    def __init__(self, *delays_s, forge=False):
        self.delays_s = list(delays_s)
        self.data = b""
        self.forge = forge

    async def write(self, data):
        await trio.lowlevel.checkpoint()
        self.data = data

    async def read_exactly(self, size):
        await trio.sleep(self.delays_s.pop(0))
        return bytes(size) if self.forge else self.data


async def test_the_shortest_of_three_counts(autojump_clock):
    assert await ping.round_trip_us(Echo(0.09, 0.02, 0.05)) == pytest.approx(20_000, abs=10)
    assert await ping.round_trip_us(Echo(0, 0, 0)) >= 1, "0 means that there is none"


async def test_an_answer_that_was_not_asked_for_proves_nothing(autojump_clock):
    with pytest.raises(PeerUnreachable, match="other bytes"):
        await ping.round_trip_us(Echo(0, 0, 0, forge=True))


async def test_two_nodes_measure_each_other():
    async with open_node("a") as a, open_node("b", a.addresses()[0]) as b:
        await until(lambda: len(a.peers()) == len(b.peers()) == 1)
        for one, other in ((a, b), (b, a)):
            assert 1 <= await one.round_trip_us(other.peer_id) < 2_000_000


async def test_who_is_not_there_has_no_round_trip():
    async with open_node("a") as a, open_node("b") as b:
        with pytest.raises(PeerUnreachable):
            await a.round_trip_us(b.peer_id)
