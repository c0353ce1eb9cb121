"""Connections, requests, streams and records between nodes of a stack, each in its time.

Spec: specs/simulation.md#stack.
"""

from functools import partial

import pytest
import trio

from node.simulator.identities import Keys
from node.simulator.stack.clock import VirtualClock
from node.simulator.stack.network import LOOKUP_S, SharedNetwork, StackNetwork
from node.simulator.stack.trio_engine import TrioEngine
from protocol.rules.verdict import Verdict
from protocol.values.errors import PeerUnreachable, RuleBroken, Stale
from protocol.wire.messages import CapabilityRecord

DELAY = 400
"""Ticks between any two nodes; a tick carries 1,000 bytes."""
PROTOCOL = "/test/1"


class AlikePaths:
    def delay(self, sender, receiver):
        return DELAY

    def rate(self, sender, receiver):
        return 1_000


class RecordedPeers:
    def __init__(self):
        self.told = []

    def peer_connected(self, peer):
        self.told.append(("came", peer))

    def peer_disconnected(self, peer):
        self.told.append(("went", peer))

    def is_known(self, peer):
        return True


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.fixture
async def shared(clock, nursery):
    found = SharedNetwork(TrioEngine(clock), AlikePaths(), Keys(1))
    nursery.start_soon(found.engine.pump)
    return found


@pytest.fixture
async def nodes(shared, nursery):
    """Two nodes; each knows the other's id from the start."""
    for number in range(3):
        shared.identities.signer(number)
    return [StackNetwork(number, shared, RecordedPeers(), nursery) for number in range(2)]


def message(shared, number):
    record = CapabilityRecord(1, 1, 60_000, (), False)
    return shared.identities.signer(number).sign(record).envelope


async def echo(peer, data):
    async def answer():
        await trio.lowlevel.checkpoint()
        return data[:4]

    await trio.lowlevel.checkpoint()
    return answer


async def test_a_new_connection_takes_three_half_round_trips(clock, shared, nodes):
    ada, bea = nodes
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(ada.reach, bea.peer_id)
    assert clock.ticks == 3 * DELAY
    assert ada._events.told == [("came", bea.peer_id)]
    assert bea._events.told == [("came", ada.peer_id)]
    (seen,) = bea.peers()
    assert (seen.peer_id, seen.direction, seen.address) == (
        ada.peer_id, "in", "/ip4/10.0.0.0/tcp/4788",
    )  # fmt: skip
    await bea.reach(ada.peer_id)
    assert clock.ticks == 3 * DELAY


async def test_a_node_that_is_away_is_not_reached(clock, shared, nodes):
    ada, bea = nodes
    bea.close()
    with pytest.raises(PeerUnreachable):
        await ada.reach(bea.peer_id)
    assert clock.current_time() == 5
    with pytest.raises(PeerUnreachable):
        await ada.request_anew(bea.peer_id, message(shared, 0))
    assert clock.current_time() == 7
    with pytest.raises(PeerUnreachable):
        await ada.request(bea.peer_id, message(shared, 0))


async def test_a_request_is_answered_by_the_node_s_own_code(clock, shared, nodes):
    ada, bea = nodes
    bea.on_request(echo)
    data = message(shared, 0)
    assert await ada.request(bea.peer_id, data) == data[:4]
    assert clock.ticks == (3 + 2 + 2) * DELAY  # A connection, a stream, the request.
    await ada.request(bea.peer_id, data)
    assert clock.ticks == 9 * DELAY
    shared.close_tick()
    assert shared.sent == {"CapabilityRecord": 2}
    assert shared.digest.events == 2
    assert (ada.traffic().messages_sent, bea.traffic().messages_received) == (2, 2)


async def test_the_digest_takes_what_comes_in_one_tick_in_any_order(clock, nodes):
    def digest_of(*notes):
        found = SharedNetwork(TrioEngine(clock), AlikePaths(), Keys(1))
        for note in notes:
            found.note(*note)
        found.close_tick()
        return found.digest.hex()

    one, other = (1, 2, 3), (1, 0, 3)
    assert digest_of(one, other) == digest_of(other, one) != digest_of(one, one)
    later = SharedNetwork(TrioEngine(clock), AlikePaths(), Keys(1))
    later.note(*one)
    await trio.sleep(1)
    later.note(*other)
    later.close_tick()
    assert later.digest.events == 2
    assert later.digest.hex() != digest_of(one, other)


async def test_a_probe_goes_over_a_stream_of_its_own(clock, shared, nodes):
    ada, bea = nodes
    bea.on_request(echo)
    data = message(shared, 0)
    await ada.reach(bea.peer_id)
    assert await ada.request_anew(bea.peer_id, data) == data[:4]
    assert clock.ticks == (3 + 2 + 2) * DELAY
    assert await ada.answers(bea.peer_id)
    assert await ada.round_trip_us(bea.peer_id) == 2 * DELAY * 100


async def test_who_is_connected_notices_when_a_node_goes(clock, shared, nodes):
    ada, bea = nodes
    never = trio.Event()

    async def serve(_peer, stream):
        await never.wait()

    bea.on_stream(PROTOCOL, serve)
    stream = await ada.open_stream(bea.peer_id, PROTOCOL)
    bea.close()
    gone = clock.ticks
    with pytest.raises(PeerUnreachable):
        await stream.read_some(1)
    assert clock.ticks == gone + DELAY
    assert ada._events.told[-1] == ("went", bea.peer_id)
    assert not ada.peers()
    assert not await ada.answers(bea.peer_id)


async def test_streams_are_served_and_end_with_their_handler(clock, shared, nodes):
    ada, bea = nodes

    async def serve(how, peer, stream):
        assert peer == ada.peer_id
        await stream.write(await stream.read_exactly(3))
        if how is not None:
            raise how

    bea.on_stream(PROTOCOL, partial(serve, None))
    stream = await ada.open_stream(bea.peer_id, PROTOCOL)
    await stream.write(b"abc")
    assert await stream.read_exactly(3) == b"abc"
    assert await stream.read_some(1) == b""
    bea.on_stream(PROTOCOL, partial(serve, Stale("late")))
    stream = await ada.open_stream(bea.peer_id, PROTOCOL)
    await stream.write(b"abc")
    with pytest.raises(PeerUnreachable):
        await stream.read_exactly(4)
    with pytest.raises(PeerUnreachable):
        await ada.open_stream(bea.peer_id, "/unknown/1")


async def test_a_fault_of_a_node_ends_the_run(shared, nodes):
    fault = RuleBroken(nodes[1].peer_id, "lies")
    with pytest.raises(AssertionError, match="lies"):
        nodes[0].blame(fault)


async def test_gossip_is_screened_and_judged_by_who_subscribes(shared, nodes):
    ada, bea = nodes
    heard, data = [], message(shared, 0)

    def judge(peer, told):
        heard.append((peer, told))
        return Verdict.ACCEPT

    bea.hear("topic", ada.peer_id, data)
    bea.subscribe("topic", judge, lambda _peer, _data: False)
    bea.hear("topic", ada.peer_id, data)
    assert not heard
    bea.subscribe("topic", judge, lambda _peer, _data: True)
    bea.hear("topic", ada.peer_id, data)
    assert heard == [(ada.peer_id, data)]
    bea.unsubscribe("topic")
    bea.hear("topic", ada.peer_id, data)
    assert len(heard) == 1
    assert bea.traffic().gossip_received == 4


async def test_a_publication_goes_to_the_gossip_of_all(shared, nodes):
    published = []

    class RecordedGossip:
        def publish(self, author, topic, data):
            published.append((author, topic, data))

    shared.gossip = RecordedGossip()
    await nodes[1].publish("topic", b"data")
    assert published == [(1, "topic", b"data")]


async def test_the_table_of_records_takes_its_time(clock, shared, nodes):
    ada, bea = nodes
    assert await ada.get_record(bea.peer_id) is None
    assert await bea.put_record(b"record")
    assert await ada.get_record(bea.peer_id) == b"record"
    assert clock.current_time() == 3 * LOOKUP_S
