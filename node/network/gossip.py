"""Topics: subscriptions, publishing, and verdicts on messages.

Spec: specs/gossip.md.
"""

from collections.abc import Callable
from typing import Final

import trio
from libp2p.peer.id import ID

from node.network.interface import SizeLimits
from node.network.libp2p_errors import Escalation
from node.network.pubsub import RepairedPubsub
from protocol.rules.verdict import Verdict
from protocol.values.errors import NodeError, PeerFault, RuleBroken
from protocol.values.ids import PeerId

Screen = Callable[[PeerId, bytes], bool]
Rule = Callable[[PeerId, bytes], Verdict]
GREET_EVERY_S: Final = 15.0


class Gossip:
    """The topics of one network."""

    def __init__(
        self,
        pubsub: RepairedPubsub,
        network_name: str,
        blame: Callable[[PeerFault], None],
        escalation: Escalation,
    ) -> None:
        self._pubsub = pubsub
        self._prefix = f"/mutirao/{network_name}/"
        self._blame = blame
        self._escalation = escalation
        self._rules: dict[str, tuple[Screen, Rule]] = {}
        self._changed = trio.Event()
        pubsub.guard(self._screen, self._judge, self._accuse, self._prefix)

    def subscribe(self, topic: str, rule: Rule, screen: Screen) -> None:
        """Subscribe to a topic, soon after the call; the rule judges each message once."""
        self._rules[self._prefix + topic] = (screen, rule)
        self._changed.set()

    def unsubscribe(self, topic: str) -> None:
        """Unsubscribe from a topic. The rule is not called after this."""
        self._rules.pop(self._prefix + topic, None)
        self._changed.set()

    async def publish(self, topic: str, data: bytes) -> None:
        """Send data to all subscribers of the topic, if there are any."""
        assert len(data) <= SizeLimits.GOSSIP_BYTES_MAX
        await self._pubsub.publish(self._prefix + topic, data)

    async def run(self) -> None:
        """Update libp2p's subscriptions whenever ours change."""
        while True:
            self._changed = trio.Event()
            heard = set(self._pubsub.topic_ids)
            for topic in self._rules.keys() - heard:
                await self._pubsub.subscribe(topic)
            for topic in heard - self._rules.keys():
                await self._pubsub.unsubscribe(topic)
            if set(self._pubsub.topic_ids) == self._rules.keys():
                with trio.move_on_after(GREET_EVERY_S) as pause:
                    await self._changed.wait()
                if pause.cancelled_caught:
                    self._pubsub.greet_again()

    def _screen(self, forwarder: ID, topic: str, data: bytes) -> bool:
        if topic not in self._rules:
            return False
        screen, _ = self._rules[topic]
        try:
            return self._escalation.call(screen, PeerId(forwarder.to_base58()), data)
        except NodeError:
            return False

    def _judge(self, forwarder: ID, topic: str, data: bytes) -> Verdict:
        _, rule = self._rules[topic]
        try:
            return self._escalation.call(rule, PeerId(forwarder.to_base58()), data)
        except NodeError:
            return Verdict.IGNORE

    def _accuse(self, peer_id: ID, why: str) -> None:
        self._blame(RuleBroken(PeerId(peer_id.to_base58()), why))
