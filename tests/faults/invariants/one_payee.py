"""L3: no voucher for two leases of one attempt at a slot, and none after the fence.

Spec: specs/lease.md#vouchers.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from protocol.values.ids import LeaseId
from protocol.values.reasons import Release
from protocol.wire.messages import LeaseRelease, Voucher
from tests.faults.network import FaultyNetwork

NAME: Final = "L3 one lease paid per attempt"


def at_end(network: FaultyNetwork) -> Iterator[str]:
    history = network.history
    paid: dict[object, set[LeaseId]] = defaultdict(set)
    fenced: set[LeaseId] = set()
    for step in history.steps:
        for signed in step.said:
            match signed.message:
                case Voucher(lease_id):
                    place = history.places[lease_id]
                    paid[place.execution].add(lease_id)
                    if lease_id in fenced:
                        yield "a voucher after the fence"
                case LeaseRelease(lease_id, Release.FENCED) if step.node == _payer(
                    network, lease_id
                ):
                    fenced.add(lease_id)
    if any(len(leases) > 1 for leases in paid.values()):
        yield "vouchers for two leases of one attempt"


def _payer(network: FaultyNetwork, lease_id: LeaseId) -> str:
    place = network.history.places.get(lease_id)
    return place.requester if place else ""
