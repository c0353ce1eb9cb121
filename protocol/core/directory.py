"""The directory: the capability records that this node knows.

Anybody can sign records for any number of keys. So each record counts on the *source* through which
it first came: the address of the peer that handed it over. A full directory takes from the source
that has the most. Records of peers that we know or are connected to are safe from all others.

Spec: specs/discovery.md#directory.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from protocol.core.running import LazyHeap
from protocol.values.ids import PeerId
from protocol.values.limits import CLOCK_SKEW_MS, PROTECTED_MAX, RECORD_FRESH_MS, RECORDS_MAX
from protocol.wire.messages import CapabilityRecord, Listing

PROTECTED: Final = "protected"
"""The source of protected peers' records."""


@dataclass(slots=True)
class _Entry:
    listing: Listing
    source: str
    heard_ms: int


class Directory:
    """Records by peer: the newest sequence number wins; what has expired is gone."""

    def __init__(self) -> None:
        self._entries: dict[PeerId, _Entry] = {}
        self._ends: LazyHeap[PeerId] = LazyHeap()
        self._shares: dict[str, _Share] = {}
        self._fullest: LazyHeap[str] = LazyHeap()  # By their size, negated.
        self._protected: OrderedDict[PeerId, None] = OrderedDict()
        self._providers: dict[PeerId, None] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, peer: PeerId, record: CapabilityRecord, source: str, now_ms: int) -> bool:
        """Take a peer's record if it is newer than the one we have; say whether it was taken.

        `source` names where it came from: the address of whoever handed it over.
        """
        self.expire(now_ms)
        known = self._entries.get(peer)
        expires_ms = record.issued_ms + record.ttl_ms
        if known is not None and known.listing.record.sequence >= record.sequence:
            return False
        if record.ttl_ms and expires_ms <= now_ms:
            return False
        listing = Listing(peer, record, expires_ms)
        if known is None:
            self._entries[peer] = _Entry(listing, self._source_for(peer, source), now_ms)
            self._join_share(peer)
        else:
            known.listing, known.heard_ms = listing, now_ms
            self._shares[known.source].note_heard(peer)
        # A withdrawn record stays for a while, so that an older one does not come back.
        self._ends.set(peer, max(expires_ms, record.issued_ms + 2 * CLOCK_SKEW_MS) + 1)
        self._note_provider(listing)
        if len(self._entries) > RECORDS_MAX:
            self._forget(self._victim(now_ms))
        return peer in self._entries

    def protect(self, peer: PeerId) -> None:
        """Keep a peer's record whatever others send: we know the peer, or are connected to it."""
        self._protected[peer] = None
        self._protected.move_to_end(peer)
        self._move(peer, PROTECTED)
        if len(self._protected) > PROTECTED_MAX:
            self.expose(next(iter(self._protected)), PROTECTED)

    def expose(self, peer: PeerId, source: str) -> None:
        """Protect a peer no more: its record counts on its own source from now on."""
        self._protected.pop(peer, None)
        self._move(peer, source)

    def get(self, peer: PeerId, now_ms: int) -> CapabilityRecord | None:
        """Return the record of a peer that holds now."""
        entry = self._entries.get(peer)
        if entry is None or entry.listing.expires_ms <= now_ms:
            return None
        return entry.listing.record

    def listings(self, now_ms: int) -> tuple[Listing, ...]:
        """Return the records that hold now, those known for longest first."""
        found = (entry.listing for entry in self._entries.values())
        return tuple(item for item in found if item.expires_ms > now_ms)

    def providers(self, now_ms: int, start: int = 0, step: int = 1) -> Iterator[Listing]:
        """Yield the listings of the nodes that lend: each `step`-th, beginning with one of them."""
        for peer in islice(self._providers, start, None, step):
            listing = self._entries[peer].listing
            if listing.expires_ms > now_ms:
                yield listing

    def count_providers(self) -> int:
        """Return how many nodes lend."""
        return len(self._providers)

    def expire(self, now_ms: int) -> None:
        """Forget what has expired, and what was withdrawn long enough ago."""
        for peer in self._ends.take_up_to(now_ms):
            self._forget(peer)

    # --- shares ---------------------------------------------------------------------------

    def _source_for(self, peer: PeerId, source: str) -> str:
        return PROTECTED if peer in self._protected else f"source {source}"

    def _join_share(self, peer: PeerId) -> None:
        source = self._entries[peer].source
        share = self._shares.setdefault(source, _Share())
        share.add(peer)
        if source != PROTECTED:
            self._fullest.set(source, -len(share))

    def _leave_share(self, peer: PeerId) -> None:
        source = self._entries[peer].source
        share = self._shares[source]
        share.remove(peer)
        if not len(share):
            del self._shares[source]
            self._fullest.discard(source)
        elif source != PROTECTED:
            self._fullest.set(source, -len(share))

    def _move(self, peer: PeerId, source: str) -> None:
        entry = self._entries.get(peer)
        if entry is not None and entry.source != self._source_for(peer, source):
            self._leave_share(peer)
            entry.source = self._source_for(peer, source)
            self._join_share(peer)

    def _victim(self, now_ms: int) -> PeerId:
        """Return whose record gives way: of the source with the most, protected ones last.

        One that was not refreshed in time goes first; else the one that came last, so that a
        flood of new keys does not push out those of before.
        """
        fullest = self._fullest.first()
        if fullest is None:
            return self._shares[PROTECTED].stalest()
        share = self._shares[fullest[1]]
        stalest = share.stalest()
        is_stale = now_ms - self._entries[stalest].heard_ms > RECORD_FRESH_MS
        return stalest if is_stale else share.newest()

    # --- details --------------------------------------------------------------------------

    def _note_provider(self, listing: Listing) -> None:
        if listing.record.providing and listing.record.ttl_ms:
            self._providers[listing.peer] = None
        else:
            self._providers.pop(listing.peer, None)

    def _forget(self, peer: PeerId) -> None:
        self._leave_share(peer)
        del self._entries[peer]
        self._ends.discard(peer)
        self._providers.pop(peer, None)


class _Share:
    """The peers whose records count on one source."""

    def __init__(self) -> None:
        self._arrived: OrderedDict[PeerId, None] = OrderedDict()
        self._heard: OrderedDict[PeerId, None] = OrderedDict()  # Heard longest ago: first.

    def __len__(self) -> int:
        return len(self._arrived)

    def add(self, peer: PeerId) -> None:
        self._arrived[peer] = self._heard[peer] = None

    def note_heard(self, peer: PeerId) -> None:
        self._heard.move_to_end(peer)

    def remove(self, peer: PeerId) -> None:
        del self._arrived[peer], self._heard[peer]

    def stalest(self) -> PeerId:
        return next(iter(self._heard))

    def newest(self) -> PeerId:
        return next(reversed(self._arrived))
