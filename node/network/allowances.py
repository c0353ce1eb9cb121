"""How much of something a peer may have: so much at once, and so much a second.

Spec: specs/gossip.md#limits.
"""

import trio


class Bucket:
    """Tokens that come back with time. Times are in seconds."""

    def __init__(self, burst: int, per_s: int) -> None:
        self._burst = burst
        self._per_s = per_s
        self._tokens = float(burst)
        self._at_s = trio.current_time()

    def take(self, wanted: int) -> int:
        """Return how many of the wanted tokens there are; they are spent."""
        granted = max(0, min(wanted, int(self._filled())))
        self._tokens -= granted
        return granted

    def owe(self, tokens: int) -> float:
        """Spend tokens whether they are there or not; return after how long they will be."""
        self._tokens = self._filled() - tokens
        return max(0.0, -self._tokens / self._per_s)

    def _filled(self) -> float:
        now_s = trio.current_time()
        self._tokens = min(self._burst, self._tokens + (now_s - self._at_s) * self._per_s)
        self._at_s = now_s
        return self._tokens
