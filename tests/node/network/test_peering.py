"""Finding each other, coming back, and dialling at the same time.

Spec: specs/network.md.
"""

import pytest
import trio
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from multiaddr import Multiaddr

from node.network import peering
from node.network.addresses import parse_peer_address
from node.network.scores import monotonic_ms
from node.network.swarm import CONNECTIONS_PER_PEER_MAX
from protocol.values.errors import BadSignature, PeerUnreachable
from protocol.values.ids import peer_id_of
from tests.node.network.fixtures import (
    RecordedEvents,
    connected_nodes,
    echo,
    open_node,
    tuned,
    until,
    until_answered,
)


async def test_a_bootstrap_peer_may_start_later_and_come_back():
    async with open_node("hub") as hub:
        address = hub.addresses()[0]
    listen = (address.partition("/p2p/")[0],)
    events = RecordedEvents()
    async with open_node("a", address, events=events) as a:
        entry = a._peering._book._entries[hub.peer_id]
        await until(lambda: entry.failures >= 2)
        assert a.peers() == ()
        for _ in range(2):
            async with open_node("hub", listen=listen) as hub:
                assert entry.not_before_ms - monotonic_ms() <= 5_000  # It comes back soon.
                await until(a.peers)
                assert a.peers()[0].peer_id == hub.peer_id
            await until(lambda: not a.peers())
    assert events.seen == [("came", hub.peer_id), ("went", hub.peer_id)] * 2


async def test_a_peer_that_comes_back_at_another_port():
    async with open_node("hub") as hub, open_node("a", hub.addresses()[0]) as a:
        async with open_node("b", hub.addresses()[0]) as b:
            b.on_request(echo)
            await until(lambda: len(a.peers()) == 2)
            assert await a.request(b.peer_id, b"1") == b"1"
        await until(lambda: len(a.peers()) == 1)
        async with open_node("b", hub.addresses()[0]) as b:
            b.on_request(echo)
            await until(lambda: len(a.peers()) == 2)
            assert await a.request(b.peer_id, b"2") == b"2"


async def nothing():
    """Refresh no routing table: they would find each other by that, sooner or later."""


async def test_a_peer_that_has_moved_is_found_by_those_that_it_is_connected_with(monkeypatch):
    quiet = tuned(connections_wanted=0)
    async with open_node("hub", tuning=quiet) as hub, open_node("b", tuning=quiet) as b:
        b.on_request(echo)
        peer = ID.from_base58(b.peer_id)
        async with open_node("a", hub.addresses()[0], tuning=quiet) as a:
            await until(a.peers)
            for node in (a, b):
                monkeypatch.setattr(node._stack.dht, "refresh_routing_table", nothing)
            old = [Multiaddr("/ip4/127.0.0.1/tcp/1")]
            a._stack.host.peerstore.add_addrs(peer, old, 60)
            assert await a._stack.dht.routing_table.add_peer(PeerInfo(peer, old))
            b._book.learn_bootstrap(*parse_peer_address(hub.addresses()[0]))
            store = hub._stack.host.peerstore
            await until(lambda: store.has_peer(peer) and store.addrs(peer))  # By identify.
            await until(lambda: hub._stack.dht.routing_table.peer_in_table(peer))
            await until_answered(a, b.peer_id)


async def test_a_search_for_a_peer_ends_when_the_peer_comes_by_itself(monkeypatch):
    async def search_for_ever(peer_id):
        searching.set()
        await trio.sleep_forever()

    async def ask():
        answers.append(await a.request(b.peer_id, b"x"))

    searching, answers = trio.Event(), []
    monkeypatch.setattr("node.network.peering.FIND_S", 1_000)
    async with open_node("a") as a, open_node("b") as b, trio.open_nursery() as nursery:
        b.on_request(echo)
        monkeypatch.setattr(a._stack.dht, "find_peer", search_for_ever)
        nursery.start_soon(ask)
        await searching.wait()
        b._book.learn(a.peer_id, [Multiaddr(a.addresses()[0])])
        await until(lambda: answers == [b"x"])
    assert not a._peering._searches


async def test_dialling_at_the_same_time():
    events = [RecordedEvents(), RecordedEvents()]
    quiet = tuned(connections_wanted=0)
    one = open_node("a", tuning=quiet, events=events[0])
    async with one as a, open_node("b", tuning=quiet, events=events[1]) as b:
        a.on_request(echo)
        b.on_request(echo)
        meet(a, b)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a.request, b.peer_id, b"x")
            nursery.start_soon(b.request, a.peer_id, b"y")
        await until(lambda: len(a.peers()) == len(b.peers()) == 1)
        for _ in range(20):
            assert await a.request(b.peer_id, b"x") == b"x"
            assert await b.request(a.peer_id, b"y") == b"y"
        assert events[0].seen == [("came", b.peer_id)]
        assert events[1].seen == [("came", a.peer_id)]


async def test_one_dead_address_does_not_hide_the_living_one():
    async with open_node("a") as a, open_node("b") as b:
        b.on_request(echo)
        learn(a, b.peer_id, "/ip4/127.0.0.1/tcp/1", "/ip4/127.0.0.2/tcp/1", bare(b))
        assert await a.request(b.peer_id, b"x") == b"x"


async def test_only_so_many_peers_are_dialled_and_bootstrap_peers_always():
    async with open_node("a", tuning=tuned(connections_wanted=1, peering_every_ms=60_000)) as a:
        others = [f"/ip4/127.0.0.1/tcp/{port}" for port in range(1, 4)]
        names = [peer_id_of(bytes([number]) * 32) for number in range(1, 4)]
        for name, address in zip(names, others, strict=True):
            learn(a, name, address)
        (chosen,) = a._peering._wanted()
        assert chosen in names
        a._peering._book.learn_bootstrap(names[0], Multiaddr(others[0]))
        a._peering._tuning = tuned(connections_wanted=0)
        assert a._peering._wanted() == [names[0]]


class Refreshes:
    """Counts the refreshes of a node's routing table, by a clock that the test sets."""

    def __init__(self, node, monkeypatch):
        self.count = 0
        self.now_ms = 10**9
        self.peering = node._peering
        self.peering._refreshed_ms = self.peering._refresh_at_ms = -(10**9)
        monkeypatch.setattr(peering, "monotonic_ms", lambda: self.now_ms)
        monkeypatch.setattr(node._stack.dht, "refresh_routing_table", self.refresh)

    async def refresh(self):
        self.count += 1

    async def during(self, seconds, name=None):
        """Let time pass; each second a newcomer may come, and the peering looks."""
        before = self.count
        for _ in range(seconds):
            self.now_ms += 1_000
            if name is not None:
                self.peering.connected(name)
            await self.peering._refresh()
        return self.count - before


async def test_newcomers_do_not_refresh_the_routing_table_all_the_time(monkeypatch):
    slow = tuned(peering_every_ms=10**9)
    async with open_node("b") as b, open_node("a", b.addresses()[0], tuning=slow) as a:
        await until(a.peers)
        refreshes = Refreshes(a, monkeypatch)
        assert await refreshes.during(1) == 1
        assert await refreshes.during(100, b.peer_id) == 20  # Each newcomer may know somebody.
        monkeypatch.setattr(a._stack.dht.routing_table, "size", lambda: peering.PEERS_ENOUGH)
        await refreshes.during(1_000)
        assert await refreshes.during(1_200) == await refreshes.during(1_200, b.peer_id) == 10


async def test_a_refused_peer_is_not_dialled():
    async with connected_nodes(2) as (a, b):
        a.blame(BadSignature(b.peer_id, "forged"))
        await until(lambda: not a.peers())
        with pytest.raises(PeerUnreachable, match="is refused"):
            await a.request(b.peer_id, b"x")


def connections(a, b) -> int:
    return len(a._stack.swarm.get_connections(ID.from_base58(b.peer_id)))


async def test_a_probe_goes_over_a_new_connection():
    async with open_node("a") as a, open_node("b", a.addresses()[0]) as b:
        a.on_request(echo)
        await until(lambda: a.peers() and b.peers())
        assert connections(b, a) == 1
        assert await b.request_anew(a.peer_id, b"are you there?") == b"are you there?"
        assert connections(b, a) == 2
        for _ in range(5):
            assert await b.request_anew(a.peer_id, b"and now?") == b"and now?"
        assert connections(b, a) <= CONNECTIONS_PER_PEER_MAX
        assert await b.answers(a.peer_id)


async def test_a_peer_that_cannot_be_dialled_is_probed_over_the_connection_that_exists():
    async with open_node("a") as a, open_node("b", a.addresses()[0], listen=()) as b:
        b.on_request(echo)
        await until(lambda: a.peers() and b.peers())
        assert await a.request_anew(b.peer_id, b"are you there?") == b"are you there?"
        assert connections(a, b) == 1


async def test_a_peer_that_is_gone_answers_no_probe():
    async with open_node("a", tuning=tuned(probe_timeout_ms=500)) as a:
        async with open_node("b", a.addresses()[0]) as b:
            await until(lambda: a.peers() and b.peers())
        await until(lambda: not a.peers())
        assert not await a.answers(b.peer_id)
        with pytest.raises(PeerUnreachable, match="does not answer a probe"):
            await a.request_anew(b.peer_id, b"are you there?")


def meet(a, b):
    learn(a, b.peer_id, bare(b))
    learn(b, a.peer_id, bare(a))


def learn(node, peer, *addresses):
    node._peering._book.learn(peer, [Multiaddr(text) for text in addresses])


def bare(node) -> str:
    return node.addresses()[0].partition("/p2p/")[0]
