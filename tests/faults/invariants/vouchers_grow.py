"""M1: the vouchers of a lease are numbered in order, and neither usage nor amount ever falls.

Spec: specs/lease.md#vouchers.
"""

from collections.abc import Iterator
from typing import Final

from protocol.values.ids import LeaseId
from protocol.wire.messages import Voucher
from tests.faults.network import FaultyNetwork

NAME: Final = "M1 vouchers grow"


def at_end(network: FaultyNetwork) -> Iterator[str]:
    newest: dict[LeaseId, Voucher] = {}
    for step in network.history.steps:
        for signed in step.said:
            voucher = signed.message
            if not isinstance(voucher, Voucher):
                continue
            before = newest.get(voucher.lease_id)
            if before is not None and voucher != before:  # The newest may be repeated.
                if voucher.sequence <= before.sequence:
                    yield "a voucher with an old number"
                if voucher.usage_ms < before.usage_ms or voucher.amount < before.amount:
                    yield "a voucher for less than the one before"
            newest[voucher.lease_id] = voucher
