"""Who gets in, and how we dial.

Spec: specs/network.md.
"""

from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
from libp2p.network.exceptions import SwarmException
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from node.network.addresses import parse_peer_address
from node.network.dials import PER_ENDPOINT, Dials
from node.network.swarm import CONNECTIONS_PER_PEER_MAX, Targets
from protocol.values.errors import BadSignature
from protocol.values.ids import peer_id_of
from tests.node.network.fixtures import (
    WAIT_S,
    RecordedEvents,
    echo,
    open_node,
    tuned,
    until,
    until_answered,
)
from tests.node.network.many_peers import open_many_peers, sources

DEAD = [Multiaddr("/ip4/127.0.0.1/tcp/1")]


async def test_an_inbound_connection_gives_its_slot_back():
    async with open_node("a") as a:
        limiter = a._stack.swarm._inbound_limiter
        async with open_node("b", a.addresses()[0]):
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
    async with open_node("a", tuning=tuned(half_open_per_source_max=3)) as a:
        port = int(a.addresses()[0].split("/")[4])
        streams = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(10)]
        assert await ended(streams, 7) == 7
        assert a._stack.swarm._half_open.count("127.0.0.1") == 3
        for stream in streams:
            await stream.aclose()
        await until(lambda: not a._stack.swarm._half_open)


async def test_half_open_connections_of_a_crowd_do_not_keep_others_out():
    async with open_node("a", tuning=tuned(half_open_max=8, half_open_per_source_max=4)) as a:
        port = int(a.addresses()[0].split("/")[4])
        streams = [
            await trio.open_tcp_stream("127.0.0.1", port, local_address=source)
            for source in sources(24, per_site=3)
        ]
        assert await ended(streams, 16) == 16
        async with open_node("b", a.addresses()[0]) as b:
            await until(b.peers)
        for stream in streams:
            await stream.aclose()


async def test_half_open_connections_time_out():
    async with open_node("a", tuning=tuned(upgrade_timeout_ms=300)) as a:
        port = int(a.addresses()[0].split("/")[4])
        streams = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(3)]
        assert await ended(streams, 3) == 3
        await until(lambda: not a._stack.swarm._half_open)
        for stream in streams:
            await stream.aclose()


async def test_a_dead_peer_is_not_dialled_again_at_once():
    async with open_node("a") as a, open_node("b") as b:
        swarm, peer = a._stack.swarm, ID.from_base58(b.peer_id)
        with pytest.raises(SwarmException, match="no address"):
            await swarm.dial_any(peer, Targets(DEAD))
        with pytest.raises(SwarmException, match="a moment ago"):
            await swarm.dial_peer(peer)
        address = Multiaddr(b.addresses()[0].partition("/p2p/")[0])
        await swarm.dial_any(peer, Targets([*DEAD, address]))  # Whoever knows better may.
        assert await swarm.dial_peer(peer)


async def test_many_dials_make_one_connection():
    async with open_node("a") as a, open_node("b") as b:
        swarm, peer = a._stack.swarm, ID.from_base58(b.peer_id)
        address = Multiaddr(b.addresses()[0].partition("/p2p/")[0])
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(swarm.dial_any, peer, Targets([address]))
        assert len(swarm.get_connections(peer)) == 1
        assert not swarm._dialling


@asynccontextmanager
async def third_party():
    """Two ports of a host that has nothing to do with us, and whence it was connected with."""
    attempts = []

    async def serve(stream):
        attempts.append(stream.socket.getpeername())
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        ports = []
        for _ in range(2):
            listen = partial(trio.serve_tcp, serve, 0, host="127.9.9.9")
            (listener,) = await nursery.start(listen)
            ports.append(listener.socket.getsockname()[1])
        yield [Multiaddr(f"/ip4/127.9.9.9/tcp/{port}") for port in ports], attempts
        nursery.cancel_scope.cancel()


async def test_a_third_party_is_dialled_a_few_times_however_many_peers_are_said_to_be_there():
    async with open_node("a") as a, third_party() as (addresses, attempts):
        swarm = a._stack.swarm
        names = [ID.from_base58(peer_id_of(bytes([number]) * 32)) for number in range(30)]
        for name in names[:15]:
            with pytest.raises(SwarmException):
                await swarm.dial_any(name, Targets(addresses))
        for name in names[15:]:  # As libp2p does, for what the DHT or identify told.
            swarm.peerstore.add_addrs(name, addresses, 60)
            with pytest.raises(SwarmException):
                await swarm.dial_peer(name)
        assert len(attempts) == 2 * PER_ENDPOINT[0]


async def test_a_peer_that_was_there_before_and_one_that_we_trust_are_always_dialled():
    async with open_node("a") as a, open_node("b") as b:
        swarm, peer = a._stack.swarm, ID.from_base58(b.peer_id)
        address = Multiaddr(b.addresses()[0].partition("/p2p/")[0])
        swarm.dials = Dials(set)  # Of no kind of our own: loopback leads elsewhere.
        with pytest.raises(SwarmException):
            await swarm.dial_any(peer, Targets([address]))
        await (await swarm.dial_any(peer, Targets([address], trusted=[address]))).close()
        assert await swarm.dial_any(peer, Targets([address]))


FEW = tuned(connections_max=16, connections_per_source_max=4, connections_wanted=2)


async def test_a_crowd_at_one_address_gets_few_slots():
    async with open_node("a", tuning=FEW) as a, open_many_peers(a.addresses()[0]) as many_peers:
        for _ in range(40):
            await many_peers.connect("127.9.0.1")
        await until(lambda: many_peers.connected == len(a.peers()) == 4)
        async with open_node("b", a.addresses()[0]) as b:
            await until(b.peers)
            assert many_peers.connected == 4


async def test_a_crowd_at_many_addresses_does_not_keep_newcomers_out():
    async with open_node("a", tuning=FEW) as a, open_many_peers(a.addresses()[0]) as many_peers:
        a.on_request(echo)
        for source in sources(30, per_site=2) * 2:
            await many_peers.connect(source)
        await until(lambda: many_peers.connected == len(a.peers()) == 16)
        async with open_node("b", a.addresses()[0]) as b:
            await until_answered(b, a.peer_id)
            for source in sources(30, per_site=2):
                await many_peers.connect(source)
            assert b.peers()
            await until(lambda: len(a._stack.swarm.get_connections()) == 16)


async def test_known_peers_and_those_of_our_choice_stay_when_a_crowd_comes():
    async with open_node("chosen") as chosen, open_node("known") as known:
        events = RecordedEvents(known={known.peer_id})
        async with open_node("a", chosen.addresses()[0], tuning=FEW, events=events) as a:
            known._book.learn_bootstrap(*parse_peer_address(a.addresses()[0]))
            await until(lambda: len(a.peers()) == 2)
            assert {peer.peer_id: peer.direction for peer in a.peers()} == {
                chosen.peer_id: "out",
                known.peer_id: "in",
            }
            async with open_many_peers(a.addresses()[0]) as many_peers:
                for source in sources(60):  # Each of a site of its own: a stranger would go.
                    assert await many_peers.connect(source)
                await until(lambda: len(a._stack.swarm.get_connections()) == 16)
                assert {chosen.peer_id, known.peer_id} < {peer.peer_id for peer in a.peers()}
            assert ("went", known.peer_id) not in events.seen
            assert ("went", chosen.peer_id) not in events.seen


async def test_strangers_who_came_do_not_keep_us_from_our_own_choice():
    async with open_node("b") as b, open_node("a", tuning=FEW) as a:
        async with open_many_peers(a.addresses()[0]) as many_peers:
            for source in sources(16):
                await many_peers.connect(source)
            await until(lambda: len(a.peers()) == 16)
            a._book.learn(*given(b))
            await until(b.peers)
            assert ID.from_base58(b.peer_id) in a._stack.swarm.chosen
        await until(lambda: len(a.peers()) == 1)
    assert not a._stack.swarm.chosen


def given(node):
    """A node's peer id and its addresses, as a book learns them."""
    peer, address = parse_peer_address(node.addresses()[0])
    return peer, [address]


async def test_slots_are_given_back():
    async with open_node("a", tuning=FEW) as a:
        swarm = a._stack.swarm
        async with open_many_peers(a.addresses()[0]) as many_peers:
            for source in sources(40):
                await many_peers.connect(source)
            await until(lambda: len(swarm._slots) == len(swarm._slot_of) == 16)
            for member in many_peers.connections:
                await member.secured_conn.close()
            await until(lambda: not (swarm._slots or swarm._slot_of))


async def test_a_wrong_name_is_noticed():
    async with open_node("a") as a, open_node("b") as b, open_node("c") as c:
        address = Multiaddr(b.addresses()[0].partition("/p2p/")[0])
        with pytest.raises(SwarmException):
            await a._stack.swarm.dial_any(ID.from_base58(c.peer_id), Targets([address]))


async def test_a_peer_has_few_connections():
    async with open_node("a") as a, open_node("b") as b:
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
    async with open_node("a") as a, open_node("b") as b:
        a.blame(BadSignature(b.peer_id, "forged"))
        address = Multiaddr(a.addresses()[0].partition("/p2p/")[0])
        try:
            await b._stack.swarm.dial_any(ID.from_base58(a.peer_id), Targets([address]))
        except SwarmException:
            assert not b.peers()
        await until(lambda: not b.peers())
        assert not a.peers()
