"""Streams between two nodes: messages take half a round trip, transfers their bandwidth too.

Spec: specs/simulation-world.md#latency.
"""

from functools import lru_cache
from typing import Final

import numpy as np

from node.simulator.engine import TICKS_PER_MS
from node.simulator.world.bandwidth import Rates
from node.simulator.world.latency import Links

PAIRS_KEPT_MAX: Final = 1 << 16


class Paths:
    """The paths of one world."""

    def __init__(self, links: Links, rates: tuple[Rates, Rates]) -> None:
        """Take the latencies, and how fast each node sends and receives."""
        self._links = links
        self._sends, self._receives = rates
        self.delay = lru_cache(PAIRS_KEPT_MAX)(self._delay)

    def _delay(self, sender: int, receiver: int) -> int:
        """Return the ticks that one message takes."""
        return int(self._links.ticks(np.array([sender]), np.array([receiver]))[0])

    def transfer(self, sender: int, receiver: int, size: int) -> int:
        """Return the ticks that so many bytes take: a round trip, and their time on the line."""
        return 2 * self.delay(sender, receiver) + size // self.rate(sender, receiver)

    def rate(self, sender: int, receiver: int) -> int:
        """Return how many bytes a tick one node can send another."""
        return min(int(self._sends[sender]), int(self._receives[receiver]))

    def round_trip_us(self, one: int, other: int) -> int:
        """Return the round trip between two nodes, in microseconds."""
        return 2 * self.delay(one, other) * 1000 // TICKS_PER_MS
