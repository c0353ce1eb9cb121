"""The sold slots on which containers run, and the next jobs that are awarded to them ahead.

Spec: specs/queue.md#successors. Between two jobs of a slot lie four round trips. Where jobs are
short, the next one goes through them while one still runs.
"""

from collections.abc import Collection
from dataclasses import replace
from typing import Final

from protocol.machines.requester.auction import SoldSlot
from protocol.values.bounded import keep_newest
from protocol.values.ids import LeaseId, PeerId
from protocol.values.limits import SHORT_MS

CLASSES_REMEMBERED: Final = 256
"""So many classes have a known length of their jobs."""


class SlotsInUse:
    """The slots of short jobs by the lease that uses them."""

    def __init__(self) -> None:
        self._longest_ms: dict[bytes, int] = {}
        """How long the jobs of a class take, by its key: the longest of late, which fades."""
        self._open: dict[bytes, dict[LeaseId, SoldSlot]] = {}
        """Slots that may be awarded to the next job, by the key of their class."""
        self._promised: set[LeaseId] = set()
        """Leases whose slots are awarded to a successor."""

    def any_open(self) -> bool:
        """Return whether a slot may be awarded to the next job of its class."""
        return bool(self._open)

    def begin(self, key: bytes, lease_id: LeaseId, slot: SoldSlot) -> None:
        """Note that a container runs on a slot."""
        if self._longest_ms.get(key, SHORT_MS + 1) <= SHORT_MS:
            self._open.setdefault(key, {})[lease_id] = slot

    def end(self, key: bytes, lease_id: LeaseId) -> bool:
        """Note that the lease no longer uses its slot; return whether a successor has it."""
        self._close(key, lease_id)
        promised = lease_id in self._promised
        self._promised.discard(lease_id)
        return promised

    def note_length(self, key: bytes, usage_ms: int) -> None:
        """Note how long a job of a class took."""
        before_ms = self._longest_ms.pop(key, 0)
        self._longest_ms[key] = max(usage_ms, before_ms * 3 // 4)
        keep_newest(self._longest_ms, CLASSES_REMEMBERED)

    def take(self, key: bytes, avoid: Collection[PeerId]) -> SoldSlot | None:
        """Promise the cheapest slot of a class to its next job; None if there is none."""
        slots = self._open.get(key, {})
        usable = [lease_id for lease_id, slot in slots.items() if slot.provider not in avoid]
        if not usable:
            return None
        lease_id = min(usable, key=lambda one: slots[one].price.rate)
        slot = slots[lease_id]
        self._close(key, lease_id)
        self._promised.add(lease_id)
        return replace(slot, binding=False, after=lease_id)

    def give_back(self, slot: SoldSlot) -> bool:
        """Take back a promised slot that is still in use; return False if it is not.

        The lease that uses it gets no other successor.
        """
        promised = slot.after in self._promised
        self._promised.discard(slot.after)
        return promised

    def _close(self, key: bytes, lease_id: LeaseId) -> None:
        slots = self._open.get(key, {})
        slots.pop(lease_id, None)
        if not slots:
            self._open.pop(key, None)
