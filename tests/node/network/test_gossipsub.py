"""What peers may make a node remember of gossip, and that it forgets them.

Spec: specs/gossip.md.
"""

import time
from collections.abc import Mapping
from types import SimpleNamespace

import pytest
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.id import ID
from libp2p.peer.peerstore import create_signed_peer_record
from libp2p.pubsub.pb import rpc_pb2
from multiaddr import Multiaddr

from node.network.gossipsub import (
    ASKED_PER_S,
    BACK_OFF_S,
    BACK_OFF_S_MAX,
    HISTORY,
    ID_BYTES_MAX,
    RESENT_MAX,
    RESENT_PER_S,
)
from node.network.repairs.gossip_queue import RoomyQueue
from protocol.rules.verdict import Verdict
from tests.node.network.fixtures import open_node, seed, until

TOPIC = "/mutirao/mutirao/calls"
UNHEARD = "/mutirao/mutirao/unheard"
FOREIGN = "/eth2/blocks"
EVE = ID.from_pubkey(create_new_key_pair(seed("eve")).public_key)
STRANGER_KEYS = create_new_key_pair(seed("stranger"))
STRANGER = ID.from_pubkey(STRANGER_KEYS.public_key)
RECORD = create_signed_peer_record(
    STRANGER, [Multiaddr("/ip4/127.0.0.1/tcp/1")], STRANGER_KEYS.private_key
).marshal_envelope()


class Victim:
    """A node that hears a topic, and Eve, who speaks to it and reads nothing."""

    def __init__(self, node):
        self.pubsub = node._stack.pubsub
        self.router = node._stack.gossipsub
        self.queue = self.pubsub.peer_queues[EVE] = RoomyQueue()
        self.pubsub.peers[EVE] = SimpleNamespace()
        self.router.add_peer(EVE, self.router.get_protocols()[0])

    async def hear(self, *, subscriptions=(), **control):
        rpc = rpc_pb2.RPC(subscriptions=subscriptions)
        for name, entries in control.items():
            getattr(rpc.control, name).extend(entries)
        await self.pubsub._take(EVE, rpc)

    def remembers(self, what):
        """Whether any table of libp2p's gossip, or of ours, holds this; allowances are none."""
        tables = (self.pubsub, self.router, self.router.mcache, self.pubsub.seen_messages)
        return any(holds(vars(table), what) for table in tables)

    def waiting(self):
        """All that waits to be sent to Eve."""
        found = []
        while len(self.queue):
            found.append(self.queue._queue.pop())
        return found


def holds(table, what):
    if table == what:
        return True
    if isinstance(table, Mapping):
        return any(holds(one, what) for pair in table.items() for one in pair)
    return isinstance(table, list | tuple | set) and any(holds(one, what) for one in table)


@pytest.fixture
async def target():
    async with open_node("a") as node:
        node.subscribe("calls", lambda peer, data: Verdict.ACCEPT)
        await until(lambda: TOPIC in node._stack.gossipsub.mesh)
        yield Victim(node)


def everything_about(topic):
    """One control message of each kind; and peers to be met."""
    stranger = rpc_pb2.PeerInfo(peerID=STRANGER.to_bytes(), signedPeerRecord=RECORD)
    return {
        "graft": [rpc_pb2.ControlGraft(topicID=topic)],
        "prune": [rpc_pb2.ControlPrune(topicID=topic, backoff=2**40, peers=[stranger])],
        "ihave": [rpc_pb2.ControlIHave(topicID=topic, messageIDs=[b"id"])],
        "iwant": [rpc_pb2.ControlIWant(messageIDs=[b"id"])],
        "idontwant": [rpc_pb2.ControlIDontWant(messageIDs=[b"id"])],
        "observe": [rpc_pb2.ControlObserve(topicID=topic)],
    }


@pytest.mark.parametrize("topic", [FOREIGN, UNHEARD])
async def test_topics_that_we_do_not_hear_are_not_remembered(target, topic):
    await target.hear(**everything_about(topic))
    assert not target.remembers(topic)
    assert not target.waiting()  # Nor is there anything to say to it.


async def test_foreign_topics_cannot_be_subscribed_to(target):
    await target.hear(subscriptions=[rpc_pb2.RPC.SubOpts(subscribe=True, topicid=FOREIGN)])
    assert not target.remembers(FOREIGN)


async def test_a_peer_that_left_is_forgotten(target):
    ours = [rpc_pb2.RPC.SubOpts(subscribe=True, topicid=topic) for topic in (TOPIC, UNHEARD)]
    for _ in range(3):
        await target.hear(subscriptions=ours, **everything_about(TOPIC))
    assert target.remembers(EVE)
    target.pubsub._handle_dead_peer(EVE)
    assert not target.remembers(EVE)
    assert not target.remembers(UNHEARD)


async def test_a_peer_that_was_never_greeted_is_forgotten(target):
    del target.pubsub.peers[EVE], target.pubsub.peer_queues[EVE]
    await target.hear(**everything_about(TOPIC))
    assert target.remembers(EVE)
    target.pubsub._handle_dead_peer(EVE)
    assert not target.remembers(EVE)


async def test_peers_that_a_peer_names_are_neither_dialled_nor_remembered(target, monkeypatch):
    dialled = []

    async def connect(info):
        dialled.append(info)

    monkeypatch.setattr(target.pubsub.host, "connect", connect)
    await target.hear(**everything_about(TOPIC))
    assert not dialled
    assert not target.remembers(STRANGER)
    assert not target.pubsub.host.get_peerstore().has_peer(STRANGER)


@pytest.mark.parametrize("asked_s, granted_s", [(0, BACK_OFF_S), (20, 20), (2**40, BACK_OFF_S_MAX)])
async def test_a_pruned_peer_waits_as_long_as_it_says_within_reason(target, asked_s, granted_s):
    graft, prune = rpc_pb2.ControlGraft(topicID=TOPIC), rpc_pb2.ControlPrune(topicID=TOPIC)
    await target.hear(graft=[graft])
    assert EVE in target.router.mesh[TOPIC]
    prune.backoff = asked_s
    before_s = int(time.time())
    await target.hear(prune=[prune], graft=[graft])
    assert EVE not in target.router.mesh[TOPIC]
    assert 0 <= target.router.back_off[TOPIC][EVE] - before_s - granted_s <= 2
    target.router.back_off[TOPIC][EVE] = before_s - 1
    await target.hear(graft=[graft])
    assert EVE in target.router.mesh[TOPIC]


def recent(target, count):
    """Let so many messages have been heard lately; return their ids."""
    ids = []
    for number in range(count):
        message = rpc_pb2.Message(topicIDs=[TOPIC], from_id=b"author", seqno=b"%d" % number)
        target.router.mcache.put(message)
        ids.append(b"author%d" % number)
    return ids


def iwant(ids):
    return {"iwant": [rpc_pb2.ControlIWant(messageIDs=ids)]}


def sent(target):
    """The ids of the messages that wait to be sent to Eve."""
    return [msg.from_id + msg.seqno for rpc in target.waiting() for msg in rpc.publish]


async def test_a_message_is_sent_again_once_for_an_rpc_and_a_few_times_in_all(target):
    ids = recent(target, 1)
    for _ in range(RESENT_MAX):
        await target.hear(**iwant(ids * 500))
        assert sent(target) == ids
    await target.hear(**iwant(ids))
    assert sent(target) == []
    for _ in range(HISTORY):
        target.router.mcache.shift()
    assert not target.router.recent._sent


async def test_a_peer_is_sent_few_messages_again_in_a_second(target):
    await target.hear(**iwant(recent(target, 4 * RESENT_PER_S)))
    assert RESENT_PER_S <= len(sent(target)) < 2 * RESENT_PER_S


async def test_subscribing_again_and_again_draws_no_more(target):
    ids = recent(target, 5)
    for hears in (True, False) * 10:
        wanted = rpc_pb2.RPC.SubOpts(subscribe=hears, topicid=TOPIC)
        await target.hear(subscriptions=[wanted])
    assert sorted(sent(target)) == sorted(ids * RESENT_MAX)


async def test_what_is_not_there_is_not_sent(target):
    await target.hear(**iwant([b"nothing", bytes(4000)]))
    assert sent(target) == []


async def test_few_of_the_messages_that_a_peer_tells_are_asked_for(target):
    ids = [b"%d" % number for number in range(4 * ASKED_PER_S)]
    long = bytes(ID_BYTES_MAX + 1)
    target.pubsub.seen_messages.add(ids[0])
    told = rpc_pb2.ControlIHave(topicID=TOPIC, messageIDs=[long, *ids])
    await target.hear(ihave=[told, told])
    (rpc,) = target.waiting()
    asked = [one for wanted in rpc.control.iwant for one in wanted.messageIDs]
    assert len(set(asked)) == len(asked)
    assert ASKED_PER_S <= len(asked) < 2 * ASKED_PER_S
    assert set(asked) <= set(ids[1:])
