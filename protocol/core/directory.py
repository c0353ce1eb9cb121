"""The directory: the capability records that this node knows.

Anybody can sign records for any number of keys. Each record therefore counts on a *source*: the
address of the peer that first delivered it. A full directory evicts from the source that has the
most records. Records of peers that are connected or settled are protected.

Spec: specs/discovery.md#directory.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final, Protocol

from protocol.core.running import LazyHeap
from protocol.values.ids import PeerId
from protocol.values.limits import CLOCK_SKEW_MS, PROTECTED_MAX, RECORD_FRESH_MS, RECORDS_MAX
from protocol.wire.messages import CapabilityRecord, Listing

PROTECTED: Final = "protected"
"""The share of protected peers' records."""
UNKNOWN: Final = "unknown"
"""The source of a peer that was protected and is not connected."""


class DirectoryView(Protocol):
    """What a core asks about the records of other nodes. Simulated nodes may share one answer."""

    def __len__(self) -> int: ...

    def add(self, peer: PeerId, record: CapabilityRecord, source: str, now_ms: int) -> bool: ...

    def protect(self, peer: PeerId) -> None: ...

    def expose(self, peer: PeerId, source: str) -> None: ...

    def get(self, peer: PeerId, now_ms: int) -> CapabilityRecord | None: ...

    def listings(self, now_ms: int) -> tuple[Listing, ...]: ...

    def providers(self, now_ms: int, start: int = 0, step: int = 1) -> Iterator[Listing]: ...

    def count_providers(self) -> int: ...

    def expire(self, now_ms: int) -> None: ...


@dataclass(slots=True)
class _Entry:
    listing: Listing
    source: str
    heard_ms: int
    heard: int
    """The number of the newest record, in the order in which records were received."""
    arrived: int
    """The number of the first record."""


class Directory:
    """Records by peer. The highest sequence number wins; expired records are removed."""

    def __init__(self) -> None:
        self._entries: dict[PeerId, _Entry] = {}
        self._ends: LazyHeap[PeerId] = LazyHeap()
        self._shares: dict[str, _Share] = {}
        self._fullest: LazyHeap[str] = LazyHeap()  # By size, negated.
        self._protected: OrderedDict[PeerId, None] = OrderedDict()
        self._providers: dict[PeerId, None] = {}
        self._received = 0

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, peer: PeerId, record: CapabilityRecord, source: str, now_ms: int) -> bool:
        """Add a peer's record if it is newer than the known one. Return whether it was added.

        `source` is the address of the peer that delivered it.
        """
        self.expire(now_ms)
        known = self._entries.get(peer)
        expires_ms = record.issued_ms + record.ttl_ms
        if known is not None and known.listing.record.sequence >= record.sequence:
            return False
        if record.ttl_ms and expires_ms <= now_ms:
            return False
        listing = Listing(peer, record, expires_ms)
        self._received += 1
        number = self._received
        if known is None:
            own = self._source_for(peer, source)
            self._entries[peer] = _Entry(listing, own, now_ms, number, number)
            self._join_share(peer)
        else:
            known.listing, known.heard_ms, known.heard = listing, now_ms, number
            self._shares[known.source].add(peer, known)
        # A withdrawal is kept for a while, so that an older record does not return.
        self._ends.set(peer, max(expires_ms, record.issued_ms + 2 * CLOCK_SKEW_MS) + 1)
        self._note_provider(listing)
        if len(self._entries) > RECORDS_MAX:
            self._forget(self._victim(now_ms))
        return peer in self._entries

    def protect(self, peer: PeerId) -> None:
        """Protect a peer's record from eviction: the peer is connected or settled."""
        self._protected[peer] = None
        self._protected.move_to_end(peer)
        self._move(peer, PROTECTED)
        if len(self._protected) > PROTECTED_MAX:
            self.expose(next(iter(self._protected)), UNKNOWN)

    def expose(self, peer: PeerId, source: str) -> None:
        """End the protection of a peer: its record counts on `source` from now on."""
        self._protected.pop(peer, None)
        self._move(peer, source)

    def get(self, peer: PeerId, now_ms: int) -> CapabilityRecord | None:
        """Return the valid record of a peer; None if there is none."""
        entry = self._entries.get(peer)
        if entry is None or entry.listing.expires_ms <= now_ms:
            return None
        return entry.listing.record

    def listings(self, now_ms: int) -> tuple[Listing, ...]:
        """Return the valid records, longest known first."""
        found = (entry.listing for entry in self._entries.values())
        return tuple(item for item in found if item.expires_ms > now_ms)

    def providers(self, now_ms: int, start: int = 0, step: int = 1) -> Iterator[Listing]:
        """Yield the valid listings of nodes that lend: every `step`-th from number `start` on."""
        for peer in islice(self._providers, start, None, step):
            listing = self._entries[peer].listing
            if listing.expires_ms > now_ms:
                yield listing

    def count_providers(self) -> int:
        """Return the number of nodes that lend."""
        return len(self._providers)

    def expire(self, now_ms: int) -> None:
        """Remove expired records and old withdrawals."""
        for peer in self._ends.take_up_to(now_ms):
            self._forget(peer)

    # --- shares ---------------------------------------------------------------------------

    def _source_for(self, peer: PeerId, source: str) -> str:
        return PROTECTED if peer in self._protected else f"source {source}"

    def _join_share(self, peer: PeerId) -> None:
        entry = self._entries[peer]
        self._shares.setdefault(entry.source, _Share()).add(peer, entry)
        self._note_size(entry.source)

    def _leave_share(self, peer: PeerId) -> None:
        source = self._entries[peer].source
        self._shares[source].remove(peer)
        self._note_size(source)

    def _note_size(self, source: str) -> None:
        size = len(self._shares[source])
        if not size:
            del self._shares[source]
            self._fullest.discard(source)
        elif source != PROTECTED:
            self._fullest.set(source, -size)

    def _move(self, peer: PeerId, source: str) -> None:
        entry, following = self._entries.get(peer), self._source_for(peer, source)
        if entry is not None and entry.source != following:
            self._leave_share(peer)
            entry.source = following
            self._join_share(peer)

    def _victim(self, now_ms: int) -> PeerId:
        """Return the peer to evict: from the source with the most records, protected peers last.

        A record that was not refreshed in time goes first, then the newest peer: a flood of new
        keys does not evict earlier peers.
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
        self._heard: LazyHeap[PeerId] = LazyHeap()  # Least recently heard first.
        self._arrived: LazyHeap[PeerId] = LazyHeap()  # Newest first.

    def __len__(self) -> int:
        return len(self._heard)

    def add(self, peer: PeerId, entry: _Entry) -> None:
        self._heard.set(peer, entry.heard)
        self._arrived.set(peer, -entry.arrived)

    def remove(self, peer: PeerId) -> None:
        self._heard.discard(peer)
        self._arrived.discard(peer)

    def stalest(self) -> PeerId:
        return _first_of(self._heard)

    def newest(self) -> PeerId:
        return _first_of(self._arrived)


def _first_of(heap: LazyHeap[PeerId]) -> PeerId:
    first = heap.first()
    assert first is not None, "an empty share is removed"
    return first[1]
