"""M2, M7: vouchers and receipts are the usage at the agreed rate, rounded down, and are capped.

Spec: specs/lease.md#metering.
"""

from collections.abc import Iterator
from typing import Final

from protocol.values.ids import LeaseId
from protocol.wire.messages import LeaseConfirm, Receipt, Voucher
from tests.faults.network import FaultyNetwork

NAME: Final = "M2 amounts follow from usage"


def at_end(network: FaultyNetwork) -> Iterator[str]:
    most: dict[LeaseId, int] = {}
    for fact in network.history.sent:
        match fact.signed.message:
            case LeaseConfirm(lease_id, _, amount_max):
                most[lease_id] = amount_max
            case Voucher() | Receipt() as due:
                name, rate = type(due).__name__, network.history.places[due.lease_id].rate
                exact = rate * due.usage_ms
                if not exact - 1_000 < due.amount * 1_000 <= exact:
                    yield f"a {name} of {due.amount} for {due.usage_ms} ms at {rate}"
                if due.amount > most[due.lease_id]:
                    yield f"a {name} above the contract"
