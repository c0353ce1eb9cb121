"""Rate limits per peer: a burst, and a rate per second.

Identities cost nothing, addresses do: the peers of one source share what is allowed to a few.
Reconnecting restores nothing.

Spec: specs/gossip.md#limits.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Generic, TypeVar

import trio

PEERS_PER_SOURCE: Final = 4  # All peers of one source share the allowance of this many.
HOLDERS_MAX: Final = 4096  # Peers and sources to remember, the most recent ones.

P = TypeVar("P")  # The type of a peer's identifier.


class TokenBucket:
    """Tokens that refill with time. Times are in seconds."""

    def __init__(self, burst: int, per_s: float) -> None:
        self._burst = burst
        self._per_s = per_s
        self._tokens = float(burst)
        self._at_s = trio.current_time()

    def take(self, wanted: int) -> int:
        """Spend up to `wanted` tokens; return how many there were."""
        granted = max(0, min(wanted, int(self._filled())))
        self._tokens -= granted
        return granted

    def owe(self, tokens: int) -> float:
        """Spend tokens, into debt if need be; return after how long the debt is refilled."""
        self._tokens = self._filled() - tokens
        return max(0.0, -self._tokens / self._per_s)

    def _filled(self) -> float:
        now_s = trio.current_time()
        self._tokens = min(self._burst, self._tokens + (now_s - self._at_s) * self._per_s)
        self._at_s = now_s
        return self._tokens


class RateLimits(Generic[P]):
    """A bucket for each peer, and one for each source, whether they are connected or not."""

    def __init__(self, burst: int, per_s: int, source_of: Callable[[P], str]) -> None:
        self._burst = burst
        self._per_s = per_s
        self._source_of = source_of
        self._buckets: OrderedDict[P | str, TokenBucket] = OrderedDict()

    def take(self, peer: P, wanted: int) -> int:
        """Spend up to `wanted` tokens of the peer and its source; return how many both had."""
        own, shared = self._buckets_of(peer)
        return shared.take(own.take(wanted))

    def owe(self, peer: P, tokens: int) -> float:
        """Spend tokens, into debt if need be; return for how many seconds to wait."""
        return max(bucket.owe(tokens) for bucket in self._buckets_of(peer))

    def _buckets_of(self, peer: P) -> tuple[TokenBucket, TokenBucket]:
        own = self._bucket(peer, 1)
        shared = self._bucket(self._source_of(peer), PEERS_PER_SOURCE)
        while len(self._buckets) > HOLDERS_MAX:
            self._buckets.popitem(last=False)
        return own, shared

    def _bucket(self, holder: P | str, times: int) -> TokenBucket:
        if holder not in self._buckets:
            self._buckets[holder] = TokenBucket(times * self._burst, times * self._per_s)
        self._buckets.move_to_end(holder)
        return self._buckets[holder]
