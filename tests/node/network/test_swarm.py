"""Who gets in, and how we dial.

Spec: specs/network.md.
"""

import pytest
import trio
from libp2p.network.exceptions import SwarmException
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from node.network.swarm import CONNECTIONS_PER_PEER_MAX
from protocol.values.errors import BadSignature
from tests.node.network.devnet import WAIT_S, opened, tuned, until

DEAD = [Multiaddr("/ip4/127.0.0.1/tcp/1")]


async def test_an_inbound_connection_gives_its_slot_back():
    async with opened("a") as a:
        limiter = a._stack.swarm._inbound_limiter
        async with opened("b", a.addresses()[0]):
            await until(a.peers)
            assert limiter.borrowed_tokens == 1
        await until(lambda: limiter.borrowed_tokens == 0)  # Stock: when the swarm ends.


async def ended(streams, count):
    """Wait until so many streams are at their end."""
    at_end = []

    async def read(stream):
        while await stream.receive_some():
            pass
        at_end.append(stream)

    with trio.fail_after(WAIT_S):
        async with trio.open_nursery() as nursery:
            for stream in streams:
                nursery.start_soon(read, stream)
            await until(lambda: len(at_end) >= count)
            nursery.cancel_scope.cancel()
    return len(at_end)


async def test_half_open_connections_are_counted_by_source():
    async with opened("a", tuning=tuned(half_open_per_address_max=3)) as a:
        port = int(a.addresses()[0].split("/")[4])
        streams = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(10)]
        assert await ended(streams, 7) == 7
        assert a._stack.swarm._half_open == {"127.0.0.1": 3}
        for stream in streams:
            await stream.aclose()
        await until(lambda: not a._stack.swarm._half_open)


async def test_half_open_connections_time_out():
    async with opened("a", tuning=tuned(upgrade_timeout_ms=300)) as a:
        port = int(a.addresses()[0].split("/")[4])
        streams = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(3)]
        assert await ended(streams, 3) == 3
        await until(lambda: not a._stack.swarm._half_open)
        for stream in streams:
            await stream.aclose()


async def test_a_dead_peer_is_not_dialled_again_at_once():
    async with opened("a") as a, opened("b") as b:
        swarm, peer = a._stack.swarm, ID.from_base58(b.peer_id)
        with pytest.raises(SwarmException, match="no address"):
            await swarm.dial_any(peer, DEAD)
        with pytest.raises(SwarmException, match="a moment ago"):
            await swarm.dial_peer(peer)
        address = Multiaddr(b.addresses()[0].partition("/p2p/")[0])
        await swarm.dial_any(peer, [*DEAD, address])  # Whoever knows better may.
        assert await swarm.dial_peer(peer)


async def test_many_dials_make_one_connection():
    async with opened("a") as a, opened("b") as b:
        swarm, peer = a._stack.swarm, ID.from_base58(b.peer_id)
        address = Multiaddr(b.addresses()[0].partition("/p2p/")[0])
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(swarm.dial_any, peer, [address])
        assert len(swarm.get_connections(peer)) == 1
        assert not swarm._dialling


async def test_a_wrong_name_is_noticed():
    async with opened("a") as a, opened("b") as b, opened("c") as c:
        address = Multiaddr(b.addresses()[0].partition("/p2p/")[0])
        with pytest.raises(SwarmException):
            await a._stack.swarm.dial_any(ID.from_base58(c.peer_id), [address])


async def test_a_peer_has_few_connections():
    async with opened("a") as a, opened("b") as b:
        address = Multiaddr(a.addresses()[0].partition("/p2p/")[0])
        peer = ID.from_base58(a.peer_id)
        dialled = 0
        for _ in range(2 * CONNECTIONS_PER_PEER_MAX):
            try:
                await b._stack.swarm.dial_addr(address, peer)
                dialled += 1
            except SwarmException:
                break
        assert dialled == CONNECTIONS_PER_PEER_MAX
        assert len(a.peers()) == len(b.peers()) == 1


async def test_a_refused_peer_does_not_get_in():
    async with opened("a") as a, opened("b") as b:
        a.blame(BadSignature(b.peer_id, "forged"))
        address = Multiaddr(a.addresses()[0].partition("/p2p/")[0])
        try:
            await b._stack.swarm.dial_any(ID.from_base58(a.peer_id), [address])
        except SwarmException:
            assert not b.peers()
        await until(lambda: not b.peers())
        assert not a.peers()
