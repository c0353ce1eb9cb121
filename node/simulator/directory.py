"""What simulated nodes know of each other's records: one table that all of them share.

A directory of its own for each of a million nodes would hold 10¹² records. Here a record is known
to all as soon as its node comes, and until it expires after its node has gone, as if its last
refresh had just come. Each node sees the table in an order of its own, as if it had met the others
at random. Spec: specs/simulation.md#directory.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from node.simulator.identities import Identities
from protocol.values.ids import PeerId
from protocol.values.limits import RECORD_REFRESH_MS, RECORD_TTL_MS
from protocol.wire.messages import CapabilityRecord, Listing

LISTINGS_KEPT_MAX: Final = 100_000


class SharedRecords:
    """The records of all nodes that lend, by number. What has been listed is kept for a while."""

    def __init__(
        self, identities: Identities, providers: Sequence[int],
        record_of: Callable[[int], CapabilityRecord], gone_ms: Mapping[int, int],
    ) -> None:  # fmt: skip
        """Take the numbers of the nodes that lend, their records, and since when some are gone."""
        self.identities = identities
        self.providers = providers
        self._record_of = record_of
        self._gone_ms = gone_ms
        self._listed: dict[int, Listing] = {}

    def among(self, providers: Sequence[int]) -> "SharedRecords":
        """Return the records of some of the nodes alone."""
        return SharedRecords(self.identities, providers, self._record_of, self._gone_ms)

    def listing(self, number: int, now_ms: int) -> Listing | None:
        """Return the record of a node with its peer; None if it has expired."""
        gone_ms = self._gone_ms.get(number)
        expires_ms = (now_ms if gone_ms is None else gone_ms) + RECORD_TTL_MS
        if expires_ms <= now_ms:
            return None
        listed = self._listed.get(number)
        age_ms = expires_ms - listed.expires_ms if listed else -1
        if 0 <= age_ms <= (RECORD_REFRESH_MS if gone_ms is None else 0):
            return listed
        return self._list(number, expires_ms)

    def forget(self, number: int) -> None:
        """Take the record of a node anew when it is next asked for."""
        self._listed.pop(number, None)

    def _list(self, number: int, expires_ms: int) -> Listing:
        listed = self._listed.get(number)
        record = listed.record if listed else self._record_of(number)
        if len(self._listed) >= LISTINGS_KEPT_MAX:
            self._listed.clear()
        listed = self._listed[number] = Listing(self.identities.peer_of(number), record, expires_ms)
        return listed


class SharedDirectory:
    """The view that one node has of the records: its own order, and nothing to store."""

    def __init__(self, records: SharedRecords, draw: int) -> None:
        """Take the records and a random number: it decides the order."""
        self._records = records
        count = len(records.providers)
        self._first = draw % count if count else 0
        self._stride = _coprime(draw // (count or 1), count)

    def __len__(self) -> int:
        return len(self._records.providers)

    def add(self, peer: PeerId, record: CapabilityRecord, source: str, now_ms: int) -> bool:
        return False

    def protect(self, peer: PeerId) -> None:
        """Do nothing: no record is evicted."""

    def expose(self, peer: PeerId, source: str) -> None:
        """Do nothing."""

    def get(self, peer: PeerId, now_ms: int) -> CapabilityRecord | None:
        number = self._records.identities.number_of(peer)
        listing = self._records.listing(number, now_ms) if self._lends(number) else None
        return listing.record if listing else None

    def listings(self, now_ms: int) -> tuple[Listing, ...]:
        return tuple(self.providers(now_ms))

    def providers(self, now_ms: int, start: int = 0, step: int = 1) -> Iterator[Listing]:
        providers, count = self._records.providers, len(self._records.providers)
        for place in range(start, count, step):
            number = providers[(self._first + place * self._stride) % count]
            listing = self._records.listing(number, now_ms)
            if listing is not None:
                yield listing

    def count_providers(self) -> int:
        return len(self._records.providers)

    def expire(self, now_ms: int) -> None:
        """Do nothing: what has expired is not listed."""

    def _lends(self, number: int) -> bool:
        return number in self._records.providers


def _coprime(draw: int, count: int) -> int:
    """Return a stride that visits each of so many places once."""
    stride = draw % count if count > 1 else 1
    while math.gcd(stride, count) != 1:
        stride += 1
    return stride
