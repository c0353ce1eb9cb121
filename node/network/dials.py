"""Which targets we dial, and how often: strangers name them.

What a peer says of itself or of others (in a call, by identify, in the DHT) may lead to a third
party that has nothing to do with us. One that does not answer as the peer that was named is left
alone after a few attempts, whoever names it, and under however many identities.

Spec: specs/network.md#dialling.
"""

from collections.abc import Callable
from typing import Final

from multiaddr import Multiaddr

from node.network.addresses import Kind, kind_of, source_of
from node.network.rate_limits import TokenBucket

PER_ENDPOINT: Final = (4, 0.1)
PER_SOURCE: Final = (16, 0.5)
"""What fails at one address and port, and at one address: so many at once, and so many a second."""
UNASKED: Final = (64, 4.0)
"""What fails anywhere, of what nobody asked for: answers of the DHT name as many as they like."""
TARGETS_MAX: Final = 4096


class Dials:
    """Counts the dials that fail, by target. `own_kinds` are the kinds of our own addresses."""

    def __init__(self, own_kinds: Callable[[], set[Kind]]) -> None:
        self._own_kinds = own_kinds
        self._targets: dict[str, TokenBucket] = {}  # Those dialled last are at the end.
        self._unasked = TokenBucket(*UNASKED)

    def begin(self, address: Multiaddr, *, is_asked: bool) -> bool:
        """Say whether we may dial an address now; it counts as failed until it `succeeded`.

        `is_asked` is true of what this node wants of the peer, and false of what the DHT's lookups
        and the peering do on their own account.
        """
        if kind_of(address) not in {Kind.PUBLIC, Kind.NAME, *self._own_kinds()}:
            return False
        buckets = self._buckets(address, is_asked=is_asked)
        granted = [bucket for bucket in buckets if bucket.take(1)]
        if len(granted) == len(buckets):
            return True
        for bucket in granted:
            bucket.owe(-1)
        return False

    def succeeded(self, address: Multiaddr, *, is_asked: bool) -> None:
        """Note that the peer that was named answered: it is no third party."""
        for bucket in self._buckets(address, is_asked=is_asked):
            bucket.owe(-1)

    def _buckets(self, address: Multiaddr, *, is_asked: bool) -> list[TokenBucket]:
        host, _, port = str(address).split("/")[2:5]
        found = [
            self._bucket(f"{host}/{port}", *PER_ENDPOINT),
            self._bucket(source_of(host), *PER_SOURCE),
        ]
        return found if is_asked else [*found, self._unasked]

    def _bucket(self, target: str, burst: int, per_s: float) -> TokenBucket:
        bucket = self._targets.pop(target, None) or TokenBucket(burst, per_s)
        self._targets[target] = bucket
        if len(self._targets) > TARGETS_MAX:
            del self._targets[next(iter(self._targets))]
        return bucket
