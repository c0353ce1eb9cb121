"""The directory: the capability records that this node knows.

Spec: specs/discovery.md#directory. The newest sequence number wins; what has expired is gone. A
record with a time to live of 0 withdraws its node.
"""

from protocol.values.ids import PeerId
from protocol.values.limits import CLOCK_SKEW_MS, RECORDS_MAX, STANDINGS_MAX
from protocol.wire.envelope import Signed
from protocol.wire.messages import CapabilityRecord, Listing

Listings = dict[PeerId, Listing]


class Directory:
    """Records by peer, those heard longest ago first.

    Anybody can sign records for any number of keys. So those of peers that we have met, on a
    connection of our own, are kept apart: a flood of others does not push them out.
    """

    def __init__(self) -> None:
        self._met: dict[PeerId, None] = {}
        self._of_met: Listings = {}
        self._of_others: Listings = {}

    def meet(self, peer: PeerId) -> None:
        """Remember that a peer exists: a connection to it stands."""
        self._met.pop(peer, None)
        self._met[peer] = None
        if len(self._met) > STANDINGS_MAX:
            del self._met[next(iter(self._met))]
        if peer in self._of_others:
            self._of_met[peer] = self._of_others.pop(peer)

    def add(self, signed: Signed[CapabilityRecord], now_ms: int) -> bool:
        """Take a record if it is newer than the one we have; say whether it was."""
        peer, record = signed.signer, signed.message
        known = self._of_met.get(peer) or self._of_others.get(peer)
        expires_ms = record.issued_ms + record.ttl_ms
        if known is not None and known.record.sequence >= record.sequence:
            return False
        if record.ttl_ms and expires_ms <= now_ms:
            return False
        # A withdrawn record stays for a while, so that an older one does not come back.
        self._forget(peer)
        listings = self._of_met if peer in self._met else self._of_others
        listings[peer] = Listing(peer, record, expires_ms)
        if len(self._of_met) + len(self._of_others) > RECORDS_MAX:
            # By the time of hearing, not of expiry: nobody gains by claiming to live longer.
            fuller = self._of_others or self._of_met
            del fuller[next(iter(fuller))]
        return True

    def expire(self, now_ms: int) -> None:
        """Forget what has expired, and what was withdrawn long enough ago."""
        for peer, listing in [*self._of_met.items(), *self._of_others.items()]:
            if now_ms > max(listing.expires_ms, listing.record.issued_ms + 2 * CLOCK_SKEW_MS):
                self._forget(peer)

    def listings(self, now_ms: int) -> tuple[Listing, ...]:
        """Return the records that hold now, those of peers that we have met first."""
        known = (*self._of_met.values(), *self._of_others.values())
        return tuple(item for item in known if item.expires_ms > now_ms)

    def _forget(self, peer: PeerId) -> None:
        self._of_met.pop(peer, None)
        self._of_others.pop(peer, None)
