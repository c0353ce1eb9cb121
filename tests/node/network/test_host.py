"""The network as its user sees it: nodes of one process over the loopback interface.

Spec: specs/network.md.
"""

from contextlib import AsyncExitStack
from dataclasses import replace

import pytest
import trio
import trio.lowlevel
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from node.network.addresses import PeerEntry
from node.network.interface import AddressTaken
from protocol.rules.verdict import Verdict
from protocol.values.errors import InvalidRequest, MalformedMessage, PeerUnreachable
from protocol.values.ids import peer_id_of
from tests.node.network.fixtures import (
    WAIT_S,
    RecordedEvents,
    answering,
    connected_nodes,
    echo,
    open_node,
    repeated,
    seed,
    tuned,
    until,
    until_answered,
)
from tests.node.network.odd_addresses import TEXTS, tell

TOPIC = "/mutirao/mutirao/calls"


async def test_two_nodes_talk():
    async with open_node("a") as a, open_node("b", a.addresses()[0]) as b:
        a.on_request(echo)
        await until(lambda: len(a.peers()) == len(b.peers()) == 1)
        assert await b.request(a.peer_id, b"hello") == b"hello"
        assert b.peers()[0].direction == "out"
        assert a.peers()[0].direction == "in"


async def test_five_nodes_find_each_other_and_gossip():
    heard = []
    async with connected_nodes(5) as nodes:
        for i, node in enumerate(nodes):

            def rule(peer, data, i=i):
                heard.append((i, data))
                return Verdict.ACCEPT

            node.subscribe("calls", rule)
        for node in nodes:
            hearers = node._stack.pubsub.peer_topics
            await until(lambda hearers=hearers: len(hearers.get(TOPIC, ())) == 4)
        for i, node in enumerate(nodes):
            await node.publish("calls", b"%d" % i)
        await until(lambda: len(heard) >= 20)
        assert sorted(heard) == sorted((i, b"%d" % j) for i in range(5) for j in range(5) if i != j)


async def test_a_request_dials_a_known_peer_and_finds_an_unknown_one():
    quiet = {"tuning": tuned(connections_wanted=0)}
    async with AsyncExitStack() as exits:
        hub = await exits.enter_async_context(open_node(0))
        a, b = [
            await exits.enter_async_context(open_node(name, hub.addresses()[0], **quiet))
            for name in (1, 2)
        ]
        b.on_request(echo)
        await until(lambda: len(hub.peers()) == 2)
        await until_answered(a, b.peer_id)


async def test_requests_to_one_peer_keep_their_order():
    seen = []

    @answering
    async def note(peer, data):
        seen.append(data)
        await trio.lowlevel.checkpoint()
        return data

    async with connected_nodes(2) as (a, b):
        a.on_request(note)
        async with trio.open_nursery() as nursery:
            for i in range(50):
                nursery.start_soon(b.request, a.peer_id, bytes([i]))
                await trio.lowlevel.checkpoint()
        assert seen == [bytes([i]) for i in range(50)]


async def test_five_peers_request_at_once():
    async with connected_nodes(6) as (hub, *others):
        hub.on_request(echo)
        answers = []

        async def ask(node):
            for i in range(20):
                data = node.peer_id.encode() + bytes([i]) * 1000
                answers.append(await node.request(hub.peer_id, data) == data)

        with trio.fail_after(WAIT_S):
            async with trio.open_nursery() as nursery:
                for node in others:
                    nursery.start_soon(ask, node)
        assert answers == [True] * 100


async def test_the_largest_request_comes_through():
    async with connected_nodes(2) as (a, b):
        a.on_request(echo)
        data = bytes(128 * 1024)
        assert await b.request(a.peer_id, data) == data


async def test_a_peer_that_is_nowhere_is_unreachable():
    async with connected_nodes(2) as (a, _), open_node("gone") as gone:
        stranger = gone.peer_id
    async with connected_nodes(2) as (a, _):
        with pytest.raises(PeerUnreachable):
            await a.request(stranger, b"")


async def test_a_slow_answer_is_given_up():
    @answering
    async def never(peer, data):
        await trio.sleep_forever()

    async with connected_nodes(2, tuning=tuned(request_timeout_ms=300)) as (a, b):
        a.on_request(never)
        with trio.fail_after(WAIT_S), pytest.raises(PeerUnreachable):
            await b.request(a.peer_id, b"")
        b._context = replace(b._context, tuning=tuned())
        b._requests._timeout_s = WAIT_S
        a.on_request(echo)  # The connection is as good as before.
        assert await b.request(a.peer_id, b"again") == b"again"


async def test_a_fault_in_a_request_costs_the_peer_its_connection():
    events = RecordedEvents()

    @answering
    async def fussy(peer, data):
        raise MalformedMessage(peer, "nothing is good enough")

    async with open_node("a", events=events) as a, open_node("b", a.addresses()[0]) as b:
        a.on_request(fussy)
        await until(a.peers)
        with trio.fail_after(WAIT_S):
            while a.peers():
                with pytest.raises(PeerUnreachable):
                    await b.request(a.peer_id, b"")
        assert events.seen == [("came", b.peer_id), ("went", b.peer_id)]
        with pytest.raises(PeerUnreachable):  # And it is kept out.
            await b.request(a.peer_id, b"")


async def test_streams_carry_bytes_both_ways():
    async def shout(peer, stream):
        while data := await stream.read_some(65536):
            await stream.write(data.upper())

    async with connected_nodes(2) as (a, b):
        a.on_stream("/mutirao/shout/1", shout)
        stream = await b.open_stream(a.peer_id, "/mutirao/shout/1")
        await stream.write(b"hello")
        assert await stream.read_exactly(5) == b"HELLO"
        await stream.write(b"bye")
        await stream.close()
        assert await stream.read_exactly(3) == b"BYE"
        assert await stream.read_some(1) == b""
        with pytest.raises(PeerUnreachable):
            await b.open_stream(a.peer_id, "/mutirao/nobody/1")


async def test_a_bug_in_a_handler_stops_the_node():
    @answering
    async def buggy(peer, data):
        raise LookupError("a bug")

    async with open_node("a") as a:
        with pytest.raises(BaseExceptionGroup) as caught:
            async with open_node("b", a.addresses()[0]) as b:
                b.on_request(buggy)
                await until(a.peers)
                with pytest.raises(PeerUnreachable):
                    await a.request(b.peer_id, b"")
                with trio.fail_after(WAIT_S):
                    await trio.sleep_forever()
        assert caught.group_contains(LookupError, match="a bug")


async def test_a_bug_in_a_rule_stops_the_node():
    def buggy(peer, data):
        raise LookupError("a bug")

    async with open_node("a") as a:
        with pytest.raises(BaseExceptionGroup) as caught:
            async with open_node("b", a.addresses()[0]) as b:
                b.subscribe("calls", buggy)
                await repeated(lambda: a.publish("calls", b"x"), lambda: False)
        assert caught.group_contains(LookupError, match="a bug")


async def test_records(patient_dht):
    async with connected_nodes(3) as (a, b, c):
        assert await a.get_record(b.peer_id) is None
        one, two = (f"{b.peer_id} {number}".encode() for number in (1, 2))
        assert await b.put_record(one)
        assert await a.get_record(b.peer_id) == one
        assert await b.put_record(two)
        assert await a.get_record(b.peer_id) == two  # Not the copy that it holds itself.
        assert await c.get_record(b.peer_id) == two
        assert await b.get_record(b.peer_id) == two


async def test_networks_of_other_names_stay_apart(patient_dht):
    heard = []
    async with open_node("a") as a, open_node("b", a.addresses()[0], network_name="other") as b:
        a.subscribe("calls", lambda peer, data: heard.append(data) or Verdict.ACCEPT)
        await until(lambda: a.peers() and b.peers())
        record = f"{b.peer_id} 1".encode()
        assert not await b.put_record(record)
        assert await a.get_record(b.peer_id) is None
        # Not even if the other network's messages were sent to us.
        hearer = ID.from_base58(a.peer_id)
        pubsub = b._stack.pubsub
        pubsub.peer_topics["/mutirao/other/calls"] = {hearer}
        pubsub.peer_topics[TOPIC] = {hearer}
        await until(lambda: hearer in pubsub.peer_queues)
        for _ in range(10):
            await b.publish("calls", b"x")
        await repeated(lambda: pubsub.publish(TOPIC, b"marker"), lambda: b"marker" in heard)
        assert set(heard) == {b"marker"}


async def test_a_taken_port_is_refused():
    async with open_node("a") as a:
        taken = a.addresses()[0].partition("/p2p/")[0]
        with pytest.raises(AddressTaken, match="cannot listen"):
            async with open_node("b", listen=(taken,)):
                pass


@pytest.mark.parametrize(
    "change",
    [
        {"listen": ("nonsense",)},
        {"listen": ("/ip4/127.0.0.1/udp/1",)},
        {"bootstrap": ("/ip4/127.0.0.1/tcp/1",)},
        {"bootstrap": ("/ip4/127.0.0.1/tcp/1/p2p/me",)},
        {"announce": ("localhost:4788",)},
        {"announce": ("/ip4/192.0.2.1/tcp/1/p2p/me",)},
        {"announce": ("/ip4/192.0.2.1/tcp/1/ws",)},
    ],
)
async def test_bad_addresses_are_refused(change):
    with pytest.raises(InvalidRequest):
        async with open_node("a", **change):
            pass


async def test_leaving_is_quick_and_leaves_nothing():
    before = trio.lowlevel.current_statistics().tasks_living
    async with connected_nodes(5, tuning=tuned(close_timeout_ms=1000 * WAIT_S)) as nodes:
        addresses = [node.addresses()[0] for node in nodes]
        started_s = trio.current_time()
    assert trio.current_time() - started_s < WAIT_S  # Of its own accord: no time-out cut it off.
    assert trio.lowlevel.current_statistics().tasks_living <= before + 1
    for address in addresses:
        with pytest.raises(OSError):
            await trio.open_tcp_stream("127.0.0.1", int(address.split("/")[4]))


async def test_leaving_by_cancellation():
    before = trio.lowlevel.current_statistics().tasks_living
    with trio.CancelScope() as scope:
        async with connected_nodes(2, tuning=tuned(close_timeout_ms=1000 * WAIT_S)) as (a, b):
            a.on_request(echo)
            await b.request(a.peer_id, b"")
            started_s = trio.current_time()
            scope.cancel()
            await trio.sleep_forever()
    assert trio.current_time() - started_s < WAIT_S
    assert trio.lowlevel.current_statistics().tasks_living <= before + 1


async def test_the_peer_id_is_that_of_the_seed():
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.from_private_bytes(seed("a")).public_key().public_bytes_raw()
    async with open_node("a") as a:
        assert a.peer_id == peer_id_of(key)
        assert a.addresses()[0].endswith(f"/p2p/{a.peer_id}")


async def test_what_others_are_told_has_no_wildcard():
    async with open_node("a", listen=("/ip4/0.0.0.0/tcp/0",)) as a:
        assert a.addresses()[0].startswith("/ip4/0.0.0.0/")
        (told,) = a.announced()
        assert not told.startswith("/ip4/0.0.0.0/")
        assert told.endswith(a.addresses()[0].removeprefix("/ip4/0.0.0.0"))


async def test_what_a_caller_says_of_itself_is_learnt_if_it_is_connected_from_there():
    quiet = tuned(connections_wanted=0)  # Nobody dials but for a request.
    async with (
        open_node("a", tuning=quiet) as a,
        open_node("b", a.addresses()[0], tuning=quiet) as b,
    ):
        await until(lambda: a.peers() and b.peers())
        odd = [f"{text}/p2p/{b.peer_id}" for text in TEXTS]
        own = b.addresses()[0]
        elsewhere = own.replace("127.0.0.1", "127.0.0.2")
        a.learn(b.peer_id, ("noise", *TEXTS, *odd, *a.addresses(), elsewhere, own))
        a.learn(a.peer_id, a.addresses())
        assert list(map(str, a._book.addresses(b.peer_id))) == [own.partition("/p2p/")[0]]
        assert a._book.addresses(a.peer_id) == []
        assert a._book.due(0) == ([], [])


async def test_a_caller_that_is_not_connected_is_found_by_those_that_it_is_connected_with():
    quiet = tuned(connections_wanted=0)
    async with open_node("hub", tuning=quiet) as hub, AsyncExitStack() as exits:
        a, b = [
            await exits.enter_async_context(open_node(name, hub.addresses()[0], tuning=quiet))
            for name in "ab"
        ]
        a.on_request(echo)
        await until(lambda: len(hub.peers()) == 2)
        b.learn(a.peer_id, a.addresses())
        assert b._book.addresses(a.peer_id) == []
        await until_answered(b, a.peer_id)


async def test_a_caller_that_names_a_third_party_leads_nobody_there():
    async with open_node("a") as a, open_node("b") as target:
        for number in range(30):
            caller = peer_id_of(bytes([number]) * 32)
            a.learn(caller, (target.addresses()[0].replace(target.peer_id, caller),))
            assert a._book.addresses(caller) == []


async def test_a_known_address_confirms_what_a_caller_says():
    async with open_node("a") as a, open_node("b") as b:
        address = b.addresses()[0]
        a._stack.host.peerstore.add_addrs(
            ID.from_base58(b.peer_id), [Multiaddr(address.partition("/p2p/")[0])], 60
        )
        a.learn(b.peer_id, (address,))
        assert len(a._book.addresses(b.peer_id)) == 1


@pytest.mark.parametrize(
    "own, kept",
    [
        ("ip4/1.1.1.1", {"ip4/8.8.8.8"}),
        ("dns4/a.test", {"ip4/8.8.8.8", "dns4/b.test", "dns/localhost"}),
        ("ip4/10.0.0.1", {"ip4/8.8.8.8", "ip4/192.168.0.9"}),
        ("ip4/127.0.0.1", {"ip4/8.8.8.8", "ip4/127.0.0.2"}),
    ],
)
async def test_a_caller_cannot_send_us_where_we_are_not_ourselves(own, kept):
    async with open_node("a", announce=(f"/{own}/tcp/1",)) as a:
        hosts = ("ip4/8.8.8.8", "ip4/192.168.0.9", "ip4/127.0.0.2", "ip4/169.254.169.254")
        for number, host in enumerate((*hosts, "dns4/b.test", "dns/localhost", "ip4/0.0.0.0")):
            caller, address = peer_id_of(bytes([number]) * 32), Multiaddr(f"/{host}/tcp/1")
            # Known: the book alone does not judge it.
            a._book._entries[caller] = PeerEntry([address])
            a.learn(caller, (f"{address}/p2p/{caller}",))
            assert a._book._callers.get(caller, []) == ([address] if host in kept else [])


async def test_odd_addresses_that_a_peer_tells_end_nobody(monkeypatch):
    """They come by identify, and are learnt from the routing table and when the peer goes."""
    events = RecordedEvents()
    async with open_node("a", events=events) as a:
        async with open_node("b") as b:
            home = Multiaddr(b.addresses()[0].partition("/p2p/")[0])
            tell(b._stack.host, monkeypatch.setattr)
            a._book.learn(b.peer_id, [home])
            await a._peering.reach(b.peer_id)
            store, peer = a._stack.host.peerstore, ID.from_base58(b.peer_id)
            await until(lambda: store.has_peer(peer) and store.get_protocols(peer))  # By identify.
            await until(lambda: a._stack.dht.routing_table.peer_in_table(peer))
            a._peering._learn_from_table()
        await until(lambda: ("went", b.peer_id) in events.seen)
        assert a._book.addresses(b.peer_id) == [home]
