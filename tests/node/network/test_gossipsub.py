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
from libp2p.pubsub.rpc_queue import RpcQueue
from multiaddr import Multiaddr

from node.network.gossipsub import BACK_OFF_S, BACK_OFF_S_MAX
from protocol.rules.verdict import Verdict
from tests.node.network.devnet import opened, seed, until

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
        self.queue = self.pubsub.peer_queues[EVE] = RpcQueue()
        self.pubsub.peers[EVE] = SimpleNamespace()
        self.router.add_peer(EVE, self.router.get_protocols()[0])

    async def hear(self, *, subscriptions=(), **control):
        rpc = rpc_pb2.RPC(subscriptions=subscriptions)
        for name, entries in control.items():
            getattr(rpc.control, name).extend(entries)
        await self.pubsub._take(EVE, rpc)

    def remembers(self, what):
        """Whether any table of libp2p's gossip, or of ours, holds this."""
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
async def victim():
    async with opened("a") as node:
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
async def test_topics_that_we_do_not_hear_are_not_remembered(victim, topic):
    await victim.hear(**everything_about(topic))
    assert not victim.remembers(topic)
    assert not victim.waiting()  # Nor is there anything to say to it.


async def test_foreign_topics_cannot_be_subscribed_to(victim):
    await victim.hear(subscriptions=[rpc_pb2.RPC.SubOpts(subscribe=True, topicid=FOREIGN)])
    assert not victim.remembers(FOREIGN)


async def test_a_peer_that_left_is_forgotten(victim):
    ours = [rpc_pb2.RPC.SubOpts(subscribe=True, topicid=topic) for topic in (TOPIC, UNHEARD)]
    for _ in range(3):
        await victim.hear(subscriptions=ours, **everything_about(TOPIC))
    assert victim.remembers(EVE)
    victim.pubsub._handle_dead_peer(EVE)
    assert not victim.remembers(EVE)
    assert not victim.remembers(UNHEARD)


async def test_a_peer_that_was_never_greeted_is_forgotten(victim):
    del victim.pubsub.peers[EVE], victim.pubsub.peer_queues[EVE]
    await victim.hear(**everything_about(TOPIC))
    assert victim.remembers(EVE)
    victim.pubsub._handle_dead_peer(EVE)
    assert not victim.remembers(EVE)


async def test_peers_that_a_peer_names_are_neither_dialled_nor_remembered(victim, monkeypatch):
    dialled = []

    async def connect(info):
        dialled.append(info)

    monkeypatch.setattr(victim.pubsub.host, "connect", connect)
    await victim.hear(**everything_about(TOPIC))
    assert not dialled
    assert not victim.remembers(STRANGER)
    assert not victim.pubsub.host.get_peerstore().has_peer(STRANGER)


@pytest.mark.parametrize("asked_s, granted_s", [(0, BACK_OFF_S), (20, 20), (2**40, BACK_OFF_S_MAX)])
async def test_a_pruned_peer_waits_as_long_as_it_says_within_reason(victim, asked_s, granted_s):
    graft, prune = rpc_pb2.ControlGraft(topicID=TOPIC), rpc_pb2.ControlPrune(topicID=TOPIC)
    await victim.hear(graft=[graft])
    assert EVE in victim.router.mesh[TOPIC]
    prune.backoff = asked_s
    before_s = int(time.time())
    await victim.hear(prune=[prune], graft=[graft])
    assert EVE not in victim.router.mesh[TOPIC]
    assert 0 <= victim.router.back_off[TOPIC][EVE] - before_s - granted_s <= 2
    victim.router.back_off[TOPIC][EVE] = before_s - 1
    await victim.hear(graft=[graft])
    assert EVE in victim.router.mesh[TOPIC]
