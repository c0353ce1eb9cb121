"""L4: the first Start of a gang is sent when each of its members has a lease that is ready.

Spec: specs/gangs.md#award-in-two-phases. Ready is what the requester heard before it committed the
Start, of a lease that it had not given up. G1 checks what is said together; this, what was true.
"""

from collections.abc import Iterator
from typing import Final

from protocol.values.ids import JobId, LeaseId
from protocol.wire.envelope import Signed
from protocol.wire.messages import LeaseRelease, Ready, Start
from tests.faults.history import Committed
from tests.faults.network import FaultyNetwork

NAME: Final = "L4 all of a gang or none"


def at_end(network: FaultyNetwork) -> Iterator[str]:
    places = network.history.places
    gangs = {job_id: spec.gang for node, job_id in network.jobs
             if (spec := network.job(node, job_id).spec).gang}  # fmt: skip
    ready: dict[LeaseId, JobId] = {}
    started: set[tuple[bytes, int]] = set()
    for step in network.history.steps:
        _note(step, network, ready)
        for lease_id in _about(step, Start):
            place = places[lease_id]
            gang = gangs.get(place.job_id)
            if gang is None or (gang, place.attempt) in started:
                continue
            started.add((gang, place.attempt))
            members = {job_id for job_id, own in gangs.items() if own == gang}
            lacking = members - set(ready.values())
            if lacking:
                yield f"a gang was started while {len(lacking)} of {len(members)} were not ready"


def _note(step: Committed, network: FaultyNetwork, ready: dict[LeaseId, JobId]) -> None:
    """Note which leases are ready, as their requesters know: a provider may release one unheard."""
    own = {lease_id: place.job_id for lease_id, place in network.history.places.items()
           if place.requester == step.node}  # fmt: skip
    heard = step.event.message if isinstance(step.event, Signed) else None
    if isinstance(heard, Ready) and heard.lease_id in own:
        ready[heard.lease_id] = own[heard.lease_id]
    over = [heard.lease_id] if isinstance(heard, LeaseRelease) else []
    for lease_id in own.keys() & {*over, *_about(step, LeaseRelease)}:
        ready.pop(lease_id, None)


def _about(step: Committed, kind: type) -> Iterator[LeaseId]:
    """Yield the leases that messages of a kind in this step are about."""
    return (signed.message.lease_id for signed in step.said if isinstance(signed.message, kind))
