"""A peer that sends spoilt bytes, at any layer, costs no more than its own connection.

Each run has the same seed. How far a conversation comes before it is spoilt depends on the
machine; what must hold does not.

Spec: specs/network.md.
"""

import contextlib
import itertools

import pytest
import trio
from multiaddr import Multiaddr

from protocol.rules.verdict import Verdict
from protocol.values.errors import PeerUnreachable
from protocol.values.ids import PeerId
from tests.node.network.fixtures import (
    RecordedEvents,
    attacker,
    echo,
    open_node,
    read_line,
    repeated,
    tuned,
    until_answered,
)

pytestmark = pytest.mark.slow

CONNECTIONS = 24
SEED = "1"
BYTES = "/mutirao/bytes/1"
TUNING = tuned(
    refused_ms=0,  # The fuzzer may come again, however it behaves.
    connections_wanted=0,
    upgrade_timeout_ms=10_000,
    dial_timeout_ms=4_000,
    request_timeout_ms=300,
    stream_timeout_ms=300,
)


async def send_back(peer, stream):
    while data := await stream.read_some(65536):
        await stream.write(data)


@pytest.fixture
def events():
    return RecordedEvents()


@pytest.fixture
async def node(events):
    async with open_node("target", tuning=TUNING, events=events) as node:
        node.on_request(echo)
        node.on_stream(BYTES, send_back)
        node.subscribe("calls", lambda peer, data: Verdict.ACCEPT)
        yield node
        async with open_node("honest", node.addresses()[0]) as honest:
            await until_answered(honest, node.peer_id)


async def test_when_it_dials(node):
    arguments = ("dial", "all", SEED, str(CONNECTIONS), node.addresses()[0])
    async with attacker(*arguments, script="fuzzer.py") as process:
        word, _, spoilt = (await read_line(process)).partition(" ")
        assert word == "done"
        assert int(spoilt) > 0


async def exchange_bytes(node, peer):
    stream = await node.open_stream(peer, BYTES)
    await stream.write(bytes(100_000))
    await stream.read_exactly(100)
    await stream.close()
    while await stream.read_some(65536):
        pass


async def use_all_of(node, peer, number):
    """Do with a peer what can be done; PeerUnreachable is all that may come of it."""

    async def attempt(call, *arguments):
        with contextlib.suppress(PeerUnreachable):
            await call(*arguments)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(attempt, node.request, peer, b"abc")
        nursery.start_soon(attempt, exchange_bytes, node, peer)
        with trio.move_on_after(0.2):
            await node.publish("calls", b"x")
            await node.get_record(peer)
            await node.put_record(f"{node.peer_id} {number}".encode())
    await node._disconnect(peer)


async def test_when_it_is_dialled(node, events):
    async with attacker("listen", "all", SEED, script="fuzzer.py") as process:
        address, _, name = (await read_line(process)).rpartition("/p2p/")
        peer = PeerId(name)
        node._peering._book.learn(peer, [Multiaddr(address)])
        numbers = itertools.count(1)
        for _ in range(CONNECTIONS):
            await use_all_of(node, peer, next(numbers))
        met = ("came", peer)  # Not all of its connections are spoilt before they stand.
        await repeated(lambda: use_all_of(node, peer, next(numbers)), lambda: met in events.seen)
