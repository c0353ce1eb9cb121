"""libp2p's gossipsub 1.1: to whom we forward what, and what peers may make us remember.

Defects that are repaired here by subclass (network.md, 3): peers make a node remember topics that
it never heard of, and it forgets nothing of a peer that has left; a peer may name others, which
are then dialled; what is accepted is kept again for every peer that does not hear its topic.

Spec: specs/gossip.md.
"""

import time
from collections.abc import Iterable
from typing import Final, cast

from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub

from node.network.foreign import contained

BACK_OFF_S: Final = 10
BACK_OFF_S_MAX: Final = 60  # Peers say how long; nobody keeps us out of a mesh for longer.


class RepairedGossipSub(GossipSub):
    """Gossipsub 1.1 with our parameters; what we publish goes to every subscriber we know."""

    def __init__(self) -> None:
        super().__init__(
            protocols=[TProtocol("/meshsub/1.1.0")],  # 1.2 costs twice the CPU.
            degree=6,
            degree_low=4,
            degree_high=12,
            heartbeat_interval=1,
            heartbeat_initial_delay=0.1,
            gossip_window=3,
            gossip_history=10,
            prune_back_off=BACK_OFF_S,
            adaptive_gossip_enabled=False,  # It raises the interval of the heartbeat to 60 s.
            spam_protection_enabled=False,  # It drops 10 messages a second, our own too.
            eclipse_protection_enabled=False,
        )
        self.scorer = None  # The node keeps its own: scores.py.

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
        for ihave in control.ihave:
            if ihave.topicID in self.mesh:
                await self.handle_ihave(ihave, sender_peer_id)
        for iwant in control.iwant:
            await self.handle_iwant(iwant, sender_peer_id)
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

    def remove_peer(self, peer_id: ID) -> None:
        """Forget all that a peer has caused; it may not even have been added."""
        super().remove_peer(peer_id)
        for waiting in self.back_off.values():
            waiting.pop(peer_id, None)

    async def flush_pending_messages(self, peer_id: ID) -> None:
        """Do nothing: no message waits for a subscription. Recent ones are sent again."""

    async def on_peer_subscribed(self, peer_id: ID, topic: str) -> None:
        with contained("gossip to a new subscriber"):
            await super().on_peer_subscribed(peer_id, topic)

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
