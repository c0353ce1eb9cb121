"""L2: a container starts at most once per lease, and one lease per attempt at a slot.

Spec: specs/lease.md#start.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from protocol.values.ids import LeaseId
from tests.faults.history import Launched
from tests.faults.network import FaultyNetwork

NAME: Final = "L2 one start per attempt"


def at_end(network: FaultyNetwork) -> Iterator[str]:
    history = network.history
    started: dict[object, list[LeaseId]] = defaultdict(list)
    for fact in history.facts:
        if isinstance(fact, Launched):
            place = history.places[fact.lease_id]
            started[place.execution].append(fact.lease_id)
    for leases in started.values():
        if len(leases) > len(set(leases)):
            yield "the container of a lease started twice"
        if len(set(leases)) > 1:
            yield "two leases of one attempt started"
