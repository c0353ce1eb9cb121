"""What of gossip gets as far as a rule.

Spec: specs/gossip.md.
"""

import math
from types import SimpleNamespace

import pytest
import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.network.stream.exceptions import StreamEOF
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import PUBSUB_SIGNING_PREFIX
from libp2p.utils.varint import encode_uvarint, encode_varint_prefixed

from node.network import pubsub
from node.network.pubsub import (
    BURST_MAX,
    RPC_ENTRIES,
    RPC_ENTRIES_MAX,
    STREAMS_PER_PEER_MAX,
    TOPIC_BYTES_MAX,
    TOPICS_PER_PEER_MAX,
)
from node.network.rate_limits import RateLimits
from node.network.rpc_stream import RPC_BYTES_MAX
from protocol.rules.verdict import Verdict
from protocol.values.ids import PeerId
from tests.node.network.fixtures import open_node, seed, until

TOPIC = "/mutirao/mutirao/calls"
EVE = create_new_key_pair(seed("eve"))
EVE_ID = ID.from_pubkey(EVE.public_key)


def message(data=b"data", seqno=1, topics=(TOPIC,)):
    made = rpc_pb2.Message(
        data=data, topicIDs=topics, from_id=EVE_ID.to_bytes(), seqno=seqno.to_bytes(8)
    )
    signed = PUBSUB_SIGNING_PREFIX.encode() + made.SerializeToString()
    made.signature = EVE.private_key.sign(signed)
    return made


@pytest.fixture
async def gossip():
    """A pubsub with `judged`, the data that the rule saw, and `penalty`, what the sender paid."""
    async with open_node("a") as node:
        pubsub = node._stack.pubsub
        pubsub.judged = []
        node.subscribe("calls", lambda peer, data: pubsub.judged.append(data) or Verdict.ACCEPT)
        pubsub.penalty = lambda: node._context.scores.penalty(PeerId(EVE_ID.to_base58()))
        pubsub.own_id = node._stack.host.get_id()
        yield pubsub


async def test_a_good_message_is_judged_once(gossip):
    for _ in range(3):
        await gossip.push_msg(EVE_ID, message())
    assert gossip.judged == [b"data"]
    assert gossip.penalty() == 0


def forged():
    made = message()
    made.data = b"other"
    return made


def unsigned():
    made = message()
    made.ClearField("signature")
    return made


def nonsense_author():
    made = message()
    made.from_id, made.key = b"\x00\x01\x02", b"no key"
    return made


@pytest.mark.parametrize(
    "bad",
    [
        forged(),
        unsigned(),
        nonsense_author(),
        message(topics=()),
        message(topics=(TOPIC, TOPIC + "2")),
        message(data=bytes(2049)),
    ],
)
async def test_a_bad_message_costs_the_forwarder(gossip, bad):
    await gossip.push_msg(EVE_ID, bad)
    assert gossip.judged == []
    assert gossip.penalty() >= 9


async def test_a_forgery_does_not_keep_the_true_message_out(gossip):
    await gossip.push_msg(EVE_ID, forged())
    await gossip.push_msg(EVE_ID, message())
    assert gossip.judged == [b"data"]


async def test_what_finds_no_room_may_come_from_another(gossip, monkeypatch):
    verdicts = [Verdict.LATER, Verdict.IGNORE]
    monkeypatch.setattr(gossip, "_judge", lambda *_: verdicts.pop(0))
    for _ in range(3):
        await gossip.push_msg(EVE_ID, message())
    assert not verdicts  # And what is ignored is judged once.
    assert gossip.penalty() == 0


async def test_what_is_screened_out_is_not_verified_and_may_come_from_another(gossip, monkeypatch):
    answers, verified = [False, True], []
    monkeypatch.setattr(gossip, "_screen", lambda *_: answers.pop(0))
    validator = pubsub.signature_validator
    monkeypatch.setattr(
        pubsub, "signature_validator", lambda msg: verified.append(msg) or validator(msg)
    )
    await gossip.push_msg(EVE_ID, message())
    assert not verified
    for _ in range(2):
        await gossip.push_msg(EVE_ID, message())
    assert gossip.judged == [b"data"]
    assert len(verified) == 1


async def test_what_claims_to_come_from_us_is_dropped(gossip):
    made = message()
    made.from_id = gossip.own_id.to_bytes()
    await gossip.push_msg(EVE_ID, made)
    assert gossip.judged == []
    assert gossip.penalty() == 0


class Stream:
    """A stream on which Eve has sent some RPCs, or other bytes, and said goodbye."""

    def __init__(self, *sent, rests=False):
        self.muxed_conn = SimpleNamespace(peer_id=EVE_ID)
        self.data = b"".join(one if isinstance(one, bytes) else framed(one) for one in sent)
        self.rests = rests
        self.was_reset = False

    async def read(self, size):
        await trio.lowlevel.checkpoint()
        if self.rests and not self.data:
            await trio.sleep_forever()
        piece, self.data = self.data[:size], self.data[size:]
        if not piece:
            raise StreamEOF
        return piece

    async def reset(self):
        self.was_reset = True


def framed(rpc):
    return encode_varint_prefixed(rpc.SerializeToString())


def numbered(numbers):
    return [message(seqno=number) for number in numbers]


async def test_what_a_peer_sends_is_judged(gossip):
    await until(lambda: TOPIC in gossip.topic_ids)
    stream = Stream(rpc_pb2.RPC(publish=numbered(range(3))), rpc_pb2.RPC(publish=numbered([3])))
    await gossip.continuously_read_stream(stream)
    assert len(gossip.judged) == 4
    assert gossip.penalty() == 0
    assert not stream.was_reset


def subscriptions(*topics, hears=True):
    made = [rpc_pb2.RPC.SubOpts(subscribe=hears, topicid=topic) for topic in topics]
    return rpc_pb2.RPC(subscriptions=made)


def crowded(**repeated):
    rpc = rpc_pb2.RPC()
    for name, entries in repeated.items():
        getattr(rpc if name in ("publish", "subscriptions") else rpc.control, name).extend(entries)
    return rpc


TOO_MANY = RPC_ENTRIES_MAX + 1
IDS = [b"id"] * TOO_MANY


@pytest.mark.parametrize(
    "bad",
    [
        crowded(publish=[rpc_pb2.Message(topicIDs=[TOPIC])] * 9000),
        crowded(subscriptions=[rpc_pb2.RPC.SubOpts(subscribe=True, topicid=TOPIC)] * TOO_MANY),
        crowded(graft=[rpc_pb2.ControlGraft(topicID=TOPIC)] * TOO_MANY),
        crowded(prune=[rpc_pb2.ControlPrune(topicID=TOPIC)] * TOO_MANY),
        crowded(ihave=[rpc_pb2.ControlIHave(topicID=TOPIC, messageIDs=IDS)]),
        crowded(ihave=[rpc_pb2.ControlIHave(topicID=TOPIC)] * TOO_MANY),
        crowded(iwant=[rpc_pb2.ControlIWant(messageIDs=IDS)]),
        crowded(iwant=[rpc_pb2.ControlIWant(messageIDs=[b"id"])] * 513),
        crowded(idontwant=[rpc_pb2.ControlIDontWant()] * TOO_MANY),
        encode_uvarint(RPC_BYTES_MAX + 1),
        b"\xff" * 12,
        b"\x05hello",
    ],
)
async def test_an_rpc_of_too_much_costs_the_sender_and_not_us(gossip, bad, monkeypatch):
    await until(lambda: TOPIC in gossip.topic_ids)
    started, pushed = [], []
    monkeypatch.setattr(gossip.manager, "run_task", lambda *task, **_: started.append(task))
    monkeypatch.setattr(gossip, "push_msg", pushed.append)
    stream = Stream(bad, rpc_pb2.RPC(publish=numbered([1])))
    await gossip.continuously_read_stream(stream)
    assert not started
    assert not pushed
    assert gossip.penalty() >= 9
    assert stream.was_reset


def flood(first, last):
    return rpc_pb2.RPC(publish=numbered(range(first, last)))


@pytest.fixture
async def miser(gossip):
    """The same, but what a peer has used up does not come back."""
    await until(lambda: TOPIC in gossip.topic_ids)
    gossip._messages = RateLimits(BURST_MAX, 0, lambda peer: "here")
    return gossip


async def test_a_flood_is_cut(miser):
    await miser.continuously_read_stream(Stream(flood(0, 150), flood(150, BURST_MAX + 100)))
    assert len(miser.judged) == BURST_MAX
    assert miser.penalty() == 0


@pytest.mark.parametrize("end", [b"", encode_uvarint(RPC_BYTES_MAX + 1), b"\x05hello", b"\x05"])
async def test_coming_again_after_a_flood_does_not_help(miser, end):
    for number in range(3):
        first = number * BURST_MAX
        await miser.continuously_read_stream(Stream(flood(first, first + BURST_MAX), end))
        miser._handle_dead_peer(EVE_ID)
    assert len(miser.judged) == BURST_MAX


async def test_many_small_rpcs_wait_until_the_peer_has_paid(gossip):
    await until(lambda: TOPIC in gossip.topic_ids)
    paid, waits = [], [0, 0, math.inf]

    def owe(_peer, tokens):
        paid.append((tokens, len(gossip.judged)))
        return waits.pop(0)

    gossip._entries.owe = owe
    stream = Stream(*(rpc_pb2.RPC(publish=numbered([number])) for number in range(5)))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(gossip.continuously_read_stream, stream)
        await until(lambda: len(paid) == 3)
        nursery.cancel_scope.cancel()
    assert paid == [(RPC_ENTRIES + 1, 0), (RPC_ENTRIES + 1, 1), (RPC_ENTRIES + 1, 2)]
    assert len(gossip.judged) == 2


async def test_a_peer_has_few_streams_of_gossip(gossip):
    streams = [Stream(rests=True) for _ in range(STREAMS_PER_PEER_MAX + 1)]
    async with trio.open_nursery() as nursery:
        for stream in streams:
            nursery.start_soon(gossip.continuously_read_stream, stream)
        await until(lambda: any(stream.was_reset for stream in streams))
        assert [stream.was_reset for stream in streams].count(True) == 1
        nursery.cancel_scope.cancel()
    assert not gossip._streams


@pytest.mark.parametrize("topic", ["other", "/mutirao/mutirao/" + "x" * TOPIC_BYTES_MAX])
async def test_foreign_topics_are_not_remembered(gossip, topic):
    await gossip._take(EVE_ID, subscriptions(topic, TOPIC))
    assert topic not in gossip.peer_topics
    assert EVE_ID in gossip.peer_topics[TOPIC]


async def test_a_peer_hears_a_bounded_number_of_topics(gossip):
    many = [f"{TOPIC} {number}" for number in range(TOPICS_PER_PEER_MAX + 10)]
    await gossip._take(EVE_ID, subscriptions(*many, *many))
    assert len(gossip.peer_topics) == TOPICS_PER_PEER_MAX
    await gossip._take(EVE_ID, subscriptions(*many, hears=False))
    assert not gossip.peer_topics
    await gossip._take(EVE_ID, subscriptions(*many[-3:]))
    assert sorted(gossip.peer_topics) == many[-3:]


async def test_what_is_read_after_the_peer_left_is_forgotten(gossip):
    assert not gossip._peer_is_connected(EVE_ID)
    await gossip.continuously_read_stream(Stream(subscriptions(TOPIC)))
    assert not gossip.peer_topics
