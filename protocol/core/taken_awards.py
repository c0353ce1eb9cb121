"""The awards that a provider has taken or must not take: copies and releases can come late.

Spec: specs/core.md#provider.
"""

from collections.abc import Container

from protocol.values.bounded import keep_newest
from protocol.values.ids import CallId, LeaseId, PeerId
from protocol.values.limits import BIDDINGS_MAX
from protocol.wire.messages import Award


class TakenAwards:
    """The awards of recent calls that became leases, and the leases released before their award.

    A late copy of an award, or of a call and its award, makes no second lease.
    """

    def __init__(self) -> None:
        self._slots: dict[CallId, set[int]] = {}
        """The slots of each call that became leases, oldest call first."""
        self._fenced: dict[tuple[LeaseId, PeerId], None] = {}

    def __contains__(self, call_id: CallId) -> bool:
        """Return whether an award of a call became a lease."""
        return call_id in self._slots

    def has(self, award: Award) -> bool:
        """Return whether an award for the same slot became a lease."""
        return award.slot in self._slots.get(award.call_id, ())

    def note(self, award: Award, open_calls: Container[CallId]) -> None:
        """Remember an award that becomes a lease; of old calls, those whose bids are open."""
        self._slots.setdefault(award.call_id, set()).add(award.slot)
        if len(self._slots) > BIDDINGS_MAX:
            over = next((c for c in self._slots if c not in open_calls), None)
            if over is not None:
                del self._slots[over]

    def fence(self, lease_id: LeaseId, requester: PeerId) -> None:
        """Remember a release whose award may still arrive."""
        self._fenced[lease_id, requester] = None
        keep_newest(self._fenced, BIDDINGS_MAX)

    def is_fenced(self, lease_id: LeaseId, requester: PeerId) -> bool:
        """Return whether a requester has released a lease before its award came."""
        return (lease_id, requester) in self._fenced
