"""Gossip between the nodes of a stack: that of the tier `message`, with real envelopes.

Meshes, hops, losses and recovery are the same code. But every member of a topic gets every
announcement, and decides itself whether its lottery draws it; and records are gossiped, too.
Spec: specs/simulation.md#stack.
"""

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from node.simulator.gossip import MessageGossip
from node.simulator.stack.trio_engine import TrioEngine
from protocol.rules.topics import RECORDS


class StackGossip(MessageGossip):
    """Delivers a topic and the bytes of an announcement, instead of a signed message."""

    def publish(self, author: Any, topic: str, envelope: bytes) -> None:
        """Bring an announcement of a node, given by its number, to all members of a topic."""
        cast("TrioEngine", self._engine).catch_up()
        known = self._topic(topic)
        count = len(known.overlay.members)
        if count:
            self.traffic.published += 1
            announcement: Any = topic, envelope
            self._spread(author, announcement, known, np.arange(count))

    def _members(self, name: str) -> NDArray[np.int64]:
        """Return who subscribes to a topic: all nodes to that of records."""
        return np.arange(len(self._population)) if name == RECORDS else super()._members(name)
