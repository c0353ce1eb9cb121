"""The door of gossip: what gets as far as a rule.

Spec: specs/gossip.md.
"""

import pytest
import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import PUBSUB_SIGNING_PREFIX

from node.network import pubsub
from node.network.pubsub import BURST_MAX, RATE_PER_S, TOPIC_BYTES_MAX, _Bucket
from protocol.rules.verdict import Verdict
from protocol.values.ids import PeerId
from tests.node.network.devnet import opened, seed

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
async def door():
    """A pubsub with `judged`, the data that the rule saw, and `penalty`, what the sender paid."""
    async with opened("a") as node:
        pubsub = node._stack.pubsub
        pubsub.judged = []
        node.subscribe("calls", lambda peer, data: pubsub.judged.append(data) or Verdict.ACCEPT)
        pubsub.penalty = lambda: node._context.scores.penalty(PeerId(EVE_ID.to_base58()))
        pubsub.own_id = node._stack.host.get_id()
        yield pubsub


async def test_a_good_message_is_judged_once(door):
    for _ in range(3):
        await door.push_msg(EVE_ID, message())
    assert door.judged == [b"data"]
    assert door.penalty() == 0


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
async def test_a_bad_message_costs_the_forwarder(door, bad):
    await door.push_msg(EVE_ID, bad)
    assert door.judged == []
    assert door.penalty() >= 9


async def test_a_forgery_does_not_keep_the_true_message_out(door):
    await door.push_msg(EVE_ID, forged())
    await door.push_msg(EVE_ID, message())
    assert door.judged == [b"data"]


async def test_what_claims_to_come_from_us_is_dropped(door):
    made = message()
    made.from_id = door.own_id.to_bytes()
    await door.push_msg(EVE_ID, made)
    assert door.judged == []
    assert door.penalty() == 0


async def test_a_flood_is_cut(door, monkeypatch):
    monkeypatch.setattr(pubsub, "RATE_PER_S", 0)
    for number in range(BURST_MAX + 100):
        await door.push_msg(EVE_ID, message(seqno=number))
    assert len(door.judged) == BURST_MAX


async def test_after_a_flood_a_peer_is_heard_again(autojump_clock):
    bucket = _Bucket()
    assert [bucket.take() for _ in range(BURST_MAX + 1)] == [True] * BURST_MAX + [False]
    await trio.sleep(2)
    assert [bucket.take() for _ in range(2 * RATE_PER_S + 1)] == [True] * 2 * RATE_PER_S + [False]


@pytest.mark.parametrize("topic", ["other", "/mutirao/mutirao/" + "x" * TOPIC_BYTES_MAX])
async def test_foreign_topics_are_not_remembered(door, topic):
    door.handle_subscription(EVE_ID, rpc_pb2.RPC.SubOpts(subscribe=True, topicid=topic))
    assert topic not in door.peer_topics
    door.handle_subscription(EVE_ID, rpc_pb2.RPC.SubOpts(subscribe=True, topicid=TOPIC))
    assert EVE_ID in door.peer_topics[TOPIC]
