"""The directory: the capability records that this node knows.

Spec: specs/discovery.md#directory. The newest sequence number wins; what has expired is gone. A
record with a time to live of 0 withdraws its node.
"""

from protocol.values.ids import PeerId
from protocol.values.limits import CLOCK_SKEW_MS, RECORDS_MAX
from protocol.wire.envelope import Signed
from protocol.wire.messages import CapabilityRecord, Listing


class Directory:
    """Records by peer."""

    def __init__(self) -> None:
        self._listings: dict[PeerId, Listing] = {}

    def add(self, signed: Signed[CapabilityRecord], now_ms: int) -> bool:
        """Take a record if it is newer than the one we have; say whether it was."""
        record, known = signed.message, self._listings.get(signed.signer)
        expires_ms = record.issued_ms + record.ttl_ms
        if known is not None and known.record.sequence >= record.sequence:
            return False
        if record.ttl_ms and expires_ms <= now_ms:
            return False
        if known is None and len(self._listings) >= RECORDS_MAX:
            soonest = min(self._listings.values(), key=lambda listing: listing.expires_ms)
            del self._listings[soonest.peer]
        # A withdrawn record stays for a while, so that an older one does not come back.
        self._listings[signed.signer] = Listing(signed.signer, record, expires_ms)
        return True

    def expire(self, now_ms: int) -> None:
        """Forget what has expired, and what was withdrawn long enough ago."""
        for peer, listing in list(self._listings.items()):
            if now_ms > max(listing.expires_ms, listing.record.issued_ms + 2 * CLOCK_SKEW_MS):
                del self._listings[peer]

    def listings(self, now_ms: int) -> tuple[Listing, ...]:
        """Return the records that hold now."""
        return tuple(item for item in self._listings.values() if item.expires_ms > now_ms)
