"""L11: a slot is awarded again only after its lease has ended, or is fenced in the same commit.

Spec: specs/lease.md#failures.
"""

from collections.abc import Iterator
from typing import Final

from protocol.values.ids import LeaseId
from protocol.wire.envelope import Signed
from protocol.wire.messages import Award, AwardDecline, Completed, LeaseRelease, Released
from tests.faults.history import Committed
from tests.faults.network import FaultyNetwork

NAME: Final = "L11 fence before replacement"
ENDS: Final = AwardDecline | LeaseRelease | Released | Completed


def at_end(network: FaultyNetwork) -> Iterator[str]:
    history = network.history
    awarded: dict[object, LeaseId] = {}
    over: set[LeaseId] = set()
    for step in history.steps:
        over.update(_ended(step))
        for signed in step.said:
            if isinstance(signed.message, Award):
                mine = [place for place in history.places.values()
                        if place.award == signed.content_id]  # fmt: skip
                for place in mine:
                    before = awarded.get(place.slot_of_job)
                    if before not in {None, place.lease_id} | over:
                        yield "a slot has two leases that are neither ended nor fenced"
                    awarded[place.slot_of_job] = place.lease_id


def _ended(step: Committed) -> Iterator[LeaseId]:
    """Yield the leases that are over for this node from this step on."""
    heard = [step.event] if isinstance(step.event, Signed) else []
    for signed in (*step.said, *heard):
        if isinstance(signed.message, ENDS):
            yield signed.message.lease_id
