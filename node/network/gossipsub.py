"""libp2p's gossipsub 1.1: to whom we forward what, and what peers may make us remember.

Defects that are repaired here by subclass (network.md, 3): peers make a node remember topics that
it never heard of, and it forgets nothing of a peer that has left; a peer may name others, which are
dialled then, and may have the same message sent to it again and again.

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

WINDOW, HISTORY = 3, 10  # Heartbeats whose messages are told by IHAVE, and are kept.
RESENT_PER_S: Final = 64  # Messages that one peer is sent again, in a second and at once.
RESENT_MAX: Final = 3  # How often it is sent the same.
ASKED_PER_S: Final = 64  # Messages that we ask one peer for.
ID_BYTES_MAX: Final = 64  # Ours have 46.
BACK_OFF_S: Final = 10
BACK_OFF_S_MAX: Final = 60  # Peers say how long; nobody keeps us out of a mesh for longer.


class RepairedGossipSub(GossipSub):
    """Gossipsub 1.1 with our parameters; what we publish goes to every subscriber we know."""

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
            spam_protection_enabled=False,  # It drops 10 messages a second, our own too.
            eclipse_protection_enabled=False,
        )
        self.scorer = None  # The node keeps its own: scores.py.
        self.recent = self.mcache = _RecentMessages()
        self._asked = RateLimits(ASKED_PER_S, ASKED_PER_S, source_of)
        self._resent = RateLimits(RESENT_PER_S, RESENT_PER_S, source_of)

    async def publish(self, msg_forwarder: ID, pubsub_msg: rpc_pb2.Message) -> None:
        """Send a message on, whether it is a peer's that was accepted or our own."""
        self.mcache.put(pubsub_msg)
        rpc = rpc_pb2.RPC(publish=[pubsub_msg])
        origin = ID(pubsub_msg.from_id)
        for peer_id in self._get_peers_to_send(pubsub_msg.topicIDs, msg_forwarder, origin):
            self.send_rpc(peer_id, rpc)
        for topic in pubsub_msg.topicIDs:
            self.time_since_last_publish[topic] = int(time.time())

    async def handle_rpc(self, rpc: rpc_pb2.RPC, sender_peer_id: ID) -> None:
        """Take the control messages of 1.1 that are about topics we hear. All else is left out."""
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
        """Take a peer into the mesh of a topic that we hear, unless we are to wait."""
        topic = graft_msg.topicID
        if not self._check_back_off(sender_peer_id, topic):
            self.mesh[topic].add(sender_peer_id)

    async def handle_prune(self, prune_msg: rpc_pb2.ControlPrune, sender_peer_id: ID) -> None:
        """Put a peer out of the mesh of a topic that we hear. Other peers that it names: no."""
        topic = prune_msg.topicID
        self.mesh[topic].discard(sender_peer_id)
        wait_s = min(prune_msg.backoff or BACK_OFF_S, BACK_OFF_S_MAX)
        self._add_back_off(sender_peer_id, topic, False, wait_s)

    async def send_recent_messages(self, peer_id: ID, topic: str) -> None:
        """Send a new subscriber what it may just have missed."""
        self._send_again(self.recent.window(topic)[-RESENT_PER_S:], peer_id)

    async def emit_control_message(self, control_msg: rpc_pb2.ControlMessage, to_peer: ID) -> None:
        """Send a control message without our signed addresses, which libp2p puts into each."""
        self.send_rpc(to_peer, rpc_pb2.RPC(control=control_msg), priority=True)

    def remove_peer(self, peer_id: ID) -> None:
        """Forget all that a peer has caused; it may not even have been added."""
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
        """Ask a peer for the messages that we have not seen of those that it tells."""
        seen = cast("Pubsub", self.pubsub).seen_messages.cache
        new = [one for one in dict.fromkeys(ids) if one not in seen and len(one) <= ID_BYTES_MAX]
        granted = self._asked.take(peer_id, len(new))
        if granted:
            await self.emit_iwant(new[:granted], peer_id)

    def _send_again(self, ids: Iterable[bytes], peer_id: ID) -> None:
        """Send a peer the messages that it wants, of those that we have and it may have again."""
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
        if msg_forwarder == pubsub.my_id:  # Flood publishing: no mesh stands in the way.
            for topic in topics:
                chosen |= pubsub.peer_topics.get(topic, set())
        return chosen - {pubsub.my_id}


class _RecentMessages(MessageCache):
    """The messages of the last heartbeats, and how often which peer was sent one again."""

    def __init__(self) -> None:
        super().__init__(WINDOW, HISTORY)
        self._sent: dict[bytes, Counter[ID]] = {}

    def may_send(self, message_id: bytes, peer_id: ID) -> bool:
        """Return whether there is such a message, and the peer has not been sent it too often."""
        sent = self._sent.get(message_id, Counter())
        return message_id in self.msgs and sent[peer_id] < RESENT_MAX

    def send(self, message_id: bytes, peer_id: ID) -> rpc_pb2.Message:
        """Return a message that is there, and note that the peer is sent it."""
        self._sent.setdefault(message_id, Counter())[peer_id] += 1
        return self.msgs[message_id]

    def forget(self, peer_id: ID) -> None:
        """Forget what a peer was sent."""
        for sent in self._sent.values():
            sent.pop(peer_id, None)

    def shift(self) -> None:
        """Drop the messages of the oldest heartbeat."""
        super().shift()
        for gone in self._sent.keys() - self.msgs.keys():
            del self._sent[gone]
