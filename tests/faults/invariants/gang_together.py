"""G1: the members of a gang are confirmed together, and started together once all are ready.

Spec: specs/gangs.md#award-in-two-phases. A message that is repeated
after a comparison does not count.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from protocol.values.ids import LeaseId
from protocol.wire.messages import LeaseConfirm, Ready, Start
from tests.faults.history import Place
from tests.faults.network import FaultyNetwork

NAME: Final = "G1 a gang goes together"


def at_end(network: FaultyNetwork) -> Iterator[str]:
    history = network.history
    specs = {job_id: network.job(node, job_id).spec for node, job_id in network.jobs}
    said: set[tuple[type, LeaseId]] = set()
    for step in history.steps:
        together: Counter[tuple[type, bytes]] = Counter()
        for message in (signed.message for signed in step.said):
            lease_id = getattr(message, "lease_id", LeaseId(b""))
            about = type(message), lease_id
            if about in said:
                continue
            said.add(about)
            gang = _gang(history.places.get(lease_id), specs)
            if gang and isinstance(message, LeaseConfirm | Start):
                together[type(message), gang] += 1
                if isinstance(message, Start) and (Ready, lease_id) not in said:
                    yield "a member was started before it was ready"
        for (kind, gang), count in together.items():
            nodes = next(spec.terms.nodes for spec in specs.values() if spec.gang == gang)
            if count < nodes:
                yield f"{kind.__name__} for {count} of {nodes} members"


def _gang(place: Place | None, specs: dict[Any, Any]) -> bytes:
    spec = specs.get(place.job_id) if place else None
    return spec.gang if spec else b""
