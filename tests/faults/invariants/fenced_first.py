"""L11: a job is awarded again only after its lease has ended, or is fenced in the same commit.

Spec: specs/lease.md#failures.
"""

from collections.abc import Iterator
from typing import Final

from protocol.machines.effects import Report
from protocol.machines.events import Awarded
from protocol.values.ids import JobId, LeaseId, PeerId
from protocol.wire.envelope import Signed
from protocol.wire.messages import AwardDecline, Completed, LeaseRelease, Released
from tests.faults.history import Committed
from tests.faults.network import FaultyNetwork

NAME: Final = "L11 fence before replacement"
ENDS: Final = AwardDecline | LeaseRelease | Released | Completed


def at_end(network: FaultyNetwork) -> Iterator[str]:
    history = network.history
    awarded: dict[tuple[PeerId, JobId], LeaseId] = {}
    over: set[LeaseId] = set()
    for step in history.steps:
        over.update(_ended(step))
        for effect in step.effects:
            match effect:
                case Report(job_id, Awarded(_, lease_id)):
                    before = awarded.get((step.node, job_id))
                    if before not in {None} | over:
                        yield "a job has two leases that are neither ended nor fenced"
                    awarded[step.node, job_id] = lease_id


def _ended(step: Committed) -> Iterator[LeaseId]:
    """Yield the leases that are over for this node from this step on."""
    heard = [step.event] if isinstance(step.event, Signed) else []
    for signed in (*step.said, *heard):
        if isinstance(signed.message, ENDS):
            yield signed.message.lease_id
