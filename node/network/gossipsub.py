"""libp2p's gossipsub 1.1: forwarding, and limits on what peers make the node store.

Defects repaired here by subclass: peers make a node store topics to which it does not subscribe,
and the node keeps the data of disconnected peers; a peer may name others, which are then dialled,
and may request the same message any number of times.

Spec: specs/gossip.md.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Final, cast

from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.mcache import MessageCache
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub

from node.network.libp2p_errors import contained
from node.network.rate_limits import RateLimits

WINDOW, HISTORY = 3, 10  # Heartbeats whose messages IHAVE names, and that are kept.
RESENT_PER_S: Final = 64  # Messages resent to one peer, per second and at once.
RESENT_MAX: Final = 3  # How often the same message is resent to it.
ASKED_PER_S: Final = 64  # Messages that we request from one peer.
ID_BYTES_MAX: Final = 64  # Ours have 46.
BACK_OFF_S: Final = 10
BACK_OFF_S_MAX: Final = 60  # Peers state the time; no peer excludes us from a mesh for longer.


class RepairedGossipSub(GossipSub):
    """Gossipsub 1.1 with our parameters; we publish to every subscriber that we know."""

    def __init__(self, source_of: Callable[[ID], str]) -> None:
        super().__init__(
            protocols=[TProtocol("/meshsub/1.1.0")],  # 1.2 costs twice the CPU.
            degree=6,
            degree_low=4,
            degree_high=12,
            heartbeat_interval=1,
            heartbeat_initial_delay=0.1,
            prune_back_off=BACK_OFF_S,
            adaptive_gossip_enabled=False,  # It raises the interval of the heartbeat to 60 s.
            spam_protection_enabled=False,  # It drops 10 messages a second, including ours.
            eclipse_protection_enabled=False,
        )
        self.scorer = None  # The node keeps its own: scores.py.
        self.recent = self.mcache = _RecentMessages()
        self._asked = RateLimits(ASKED_PER_S, ASKED_PER_S, source_of)
        self._resent = RateLimits(RESENT_PER_S, RESENT_PER_S, source_of)

    async def publish(self, msg_forwarder: ID, pubsub_msg: rpc_pb2.Message) -> None:
        """Forward an accepted message of a peer, or publish our own."""
        self.mcache.put(pubsub_msg)
        rpc = rpc_pb2.RPC(publish=[pubsub_msg])
        origin = ID(pubsub_msg.from_id)
        for peer_id in self._get_peers_to_send(pubsub_msg.topicIDs, msg_forwarder, origin):
            self.send_rpc(peer_id, rpc)
        for topic in pubsub_msg.topicIDs:
            self.time_since_last_publish[topic] = int(time.time())

    async def handle_rpc(self, rpc: rpc_pb2.RPC, sender_peer_id: ID) -> None:
        """Process the control messages of 1.1 for our topics, and ignore all others."""
        control = rpc.control
        told = (ihave.messageIDs for ihave in control.ihave if ihave.topicID in self.mesh)
        await self._ask_for(chain.from_iterable(told), sender_peer_id)
        wanted = (iwant.messageIDs for iwant in control.iwant)
        self._send_again(chain.from_iterable(wanted), sender_peer_id)
        for graft in control.graft:
            if graft.topicID in self.mesh:
                await self.handle_graft(graft, sender_peer_id)
        for prune in control.prune:
            if prune.topicID in self.mesh:
                await self.handle_prune(prune, sender_peer_id)

    async def handle_graft(self, graft_msg: rpc_pb2.ControlGraft, sender_peer_id: ID) -> None:
        """Add a peer to the mesh of one of our topics, unless we must wait."""
        topic = graft_msg.topicID
        if not self._check_back_off(sender_peer_id, topic):
            self.mesh[topic].add(sender_peer_id)

    async def handle_prune(self, prune_msg: rpc_pb2.ControlPrune, sender_peer_id: ID) -> None:
        """Remove a peer from the mesh of one of our topics. Ignore other peers that it names."""
        topic = prune_msg.topicID
        self.mesh[topic].discard(sender_peer_id)
        wait_s = min(prune_msg.backoff or BACK_OFF_S, BACK_OFF_S_MAX)
        self._add_back_off(sender_peer_id, topic, False, wait_s)

    async def send_recent_messages(self, peer_id: ID, topic: str) -> None:
        """Send a new subscriber the messages that it may just have missed."""
        self._send_again(self.recent.window(topic)[-RESENT_PER_S:], peer_id)

    async def emit_control_message(self, control_msg: rpc_pb2.ControlMessage, to_peer: ID) -> None:
        """Send a control message without our signed addresses, which libp2p puts into each."""
        self.send_rpc(to_peer, rpc_pb2.RPC(control=control_msg), priority=True)

    def remove_peer(self, peer_id: ID) -> None:
        """Discard all data of a peer, which may not even have been added."""
        super().remove_peer(peer_id)
        self.recent.forget(peer_id)
        for waiting in self.back_off.values():
            waiting.pop(peer_id, None)

    async def flush_pending_messages(self, peer_id: ID) -> None:
        """Do nothing: no message waits for a subscription. Recent ones are sent again."""

    async def on_peer_subscribed(self, peer_id: ID, topic: str) -> None:
        with contained("gossip to a new subscriber"):
            await super().on_peer_subscribed(peer_id, topic)

    async def _ask_for(self, ids: Iterable[bytes], peer_id: ID) -> None:
        """Request the messages that a peer announces and that we have not seen."""
        seen = cast("Pubsub", self.pubsub).seen_messages.cache
        new = [one for one in dict.fromkeys(ids) if one not in seen and len(one) <= ID_BYTES_MAX]
        granted = self._asked.take(peer_id, len(new))
        if granted:
            await self.emit_iwant(new[:granted], peer_id)

    def _send_again(self, ids: Iterable[bytes], peer_id: ID) -> None:
        """Send a peer the requested messages that we have, within its limits."""
        wanted = [one for one in dict.fromkeys(ids) if self.recent.may_send(one, peer_id)]
        granted = self._resent.take(peer_id, len(wanted))
        if granted:
            messages = [self.recent.send(one, peer_id) for one in wanted[:granted]]
            self.send_rpc(peer_id, rpc_pb2.RPC(publish=messages))

    def _get_peers_to_send(
        self,
        topic_ids: Iterable[str],
        msg_forwarder: ID,
        origin: ID,
        msg_id: bytes | None = None,
    ) -> Iterable[ID]:
        pubsub = cast("Pubsub", self.pubsub)
        topics = list(topic_ids)
        chosen = set(super()._get_peers_to_send(topics, msg_forwarder, origin, msg_id))
        if msg_forwarder == pubsub.my_id:  # Flood publishing ignores the mesh.
            for topic in topics:
                chosen |= pubsub.peer_topics.get(topic, set())
        return chosen - {pubsub.my_id}


class _RecentMessages(MessageCache):
    """The messages of the last heartbeats, and how often each was resent to each peer."""

    def __init__(self) -> None:
        super().__init__(WINDOW, HISTORY)
        self._sent: dict[bytes, Counter[ID]] = {}

    def may_send(self, message_id: bytes, peer_id: ID) -> bool:
        """Return whether the message exists, and was not resent to the peer too often."""
        sent = self._sent.get(message_id, Counter())
        return message_id in self.msgs and sent[peer_id] < RESENT_MAX

    def send(self, message_id: bytes, peer_id: ID) -> rpc_pb2.Message:
        """Return an existing message, and count that it is sent to the peer."""
        self._sent.setdefault(message_id, Counter())[peer_id] += 1
        return self.msgs[message_id]

    def forget(self, peer_id: ID) -> None:
        """Discard a peer's counts."""
        for sent in self._sent.values():
            sent.pop(peer_id, None)

    def shift(self) -> None:
        """Discard the messages of the oldest heartbeat."""
        super().shift()
        for gone in self._sent.keys() - self.msgs.keys():
            del self._sent[gone]
