"""Limits on dialling addresses that strangers name.

An address that a peer reports for itself or others (in a call, by identify, in the DHT) may belong
to a third party. If it does not answer as the named peer, it is not dialled again after a few
attempts, no matter which identities name it.

Spec: specs/network.md#dialling.
"""

from collections.abc import Callable
from typing import Final

from multiaddr import Multiaddr

from node.network.addresses import Kind, kind_of, source_of
from node.network.rate_limits import TokenBucket
from protocol.values.bounded import keep_newest

PER_ENDPOINT: Final = (4, 0.1)
PER_SOURCE: Final = (16, 0.5)
"""Failed dials to one address and port, and to one address: burst, and rate per second."""
UNASKED: Final = (64, 4.0)
"""All failed dials that the node did not ask for: answers of the DHT name any number."""
TARGETS_MAX: Final = 4096


class Dials:
    """Counts the dials that fail, by target. `own_kinds` are the kinds of our own addresses."""

    def __init__(self, own_kinds: Callable[[], set[Kind]]) -> None:
        self._own_kinds = own_kinds
        self._targets: dict[str, TokenBucket] = {}  # The last dialled are at the end.
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
        """Record that the named peer answered: it is not a third party."""
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
        keep_newest(self._targets, TARGETS_MAX)
        return bucket
