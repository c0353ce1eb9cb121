"""Peer scores: a peer with too many faults is refused for a while.

Spec: specs/network.md.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from protocol.values.bounded import keep_newest
from protocol.values.errors import PeerFault
from protocol.values.ids import PeerId

PENALTY_LIMIT: Final = 100  # One forged signature, or eleven small faults in a minute.
HEALED_PER_MINUTE: Final = 10
PEERS_MAX: Final = 10_000  # Beyond it the oldest entries are evicted: identities cost nothing.


def monotonic_ms() -> int:
    """Return the time of a monotonic clock in milliseconds."""
    return time.monotonic_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class _Memory:
    penalty_milli: int  # In thousandths, so the decay is exact.
    at_ms: int
    refused_until_ms: int = 0

    def healed(self, now_ms: int) -> int:
        """Return the current penalty, in thousandths."""
        healed = (now_ms - self.at_ms) * HEALED_PER_MINUTE // 60
        return max(0, self.penalty_milli - healed)


class Scores:
    """The penalties of peers. They decay with time."""

    def __init__(self, refused_ms: int, clock: Callable[[], int] = monotonic_ms) -> None:
        self._refused_ms = refused_ms
        self._clock = clock
        self._memories: dict[PeerId, _Memory] = {}

    def blame(self, fault: PeerFault) -> bool:
        """Record a fault; return whether the peer is refused from now on."""
        now_ms = self._clock()
        old = self._memories.pop(fault.peer, _Memory(0, now_ms))
        penalty = old.healed(now_ms) + 1000 * fault.penalty
        refused_until_ms = old.refused_until_ms
        if penalty >= 1000 * PENALTY_LIMIT:
            penalty, refused_until_ms = 0, now_ms + self._refused_ms  # The score starts again at 0.
        self._memories[fault.peer] = _Memory(penalty, now_ms, refused_until_ms)
        self._forget()
        return self.refuses(fault.peer)

    def refuses(self, peer: PeerId) -> bool:
        """Return whether the peer is refused now."""
        memory = self._memories.get(peer)
        return memory is not None and self._clock() < memory.refused_until_ms

    def penalty(self, peer: PeerId) -> int:
        """Return the penalty points of a peer, 0 for a stranger."""
        memory = self._memories.get(peer)
        return 0 if memory is None else memory.healed(self._clock()) // 1000

    def _forget(self) -> None:
        keep_newest(self._memories, PEERS_MAX)
