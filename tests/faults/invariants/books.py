"""M4: both sides keep the same receipts; what was promised is what was billed; nothing is lost.

Spec: specs/lease.md#receipt. A dead node hears and says nothing more. A requester whose clock
was set may dispute a bill, rightly.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from protocol.machines.effects import Settle
from protocol.values.ids import LeaseId
from protocol.wire.messages import Voucher
from tests.faults.network import FaultyNetwork

NAME: Final = "M4 the books agree"


def at_end(network: FaultyNetwork) -> Iterator[str]:
    paid: dict[LeaseId, Settle] = {}
    earned: dict[LeaseId, Settle] = {}
    for node in network.nodes.values():
        for lease_id, receipt in node.disk.receipts.items():
            (earned if receipt.provider == node.peer_id else paid)[lease_id] = receipt
    promised = _promised(network)
    for lease_id, receipt in earned.items():
        if receipt.countersign and replace(receipt, voucher=b"") != paid.get(lease_id):
            yield "the provider keeps a receipt that the requester does not have"
    for lease_id, receipt in paid.items():
        both_live = not {receipt.provider, receipt.requester} & network.dead
        has_it = lease_id in earned and earned[lease_id].countersign
        if receipt.countersign and both_live and not has_it:
            yield "the requester has signed a receipt that the provider does not have"
        if promised.get(lease_id, 0) != receipt.amount and receipt.countersign:
            yield f"{promised.get(lease_id, 0)} promised, {receipt.amount} billed"
        if not receipt.countersign and receipt.requester not in network.clock_was_set:
            yield "an honest bill was disputed"


def _promised(network: FaultyNetwork) -> dict[LeaseId, int]:
    found: dict[LeaseId, int] = {}
    for step in network.history.steps:
        for signed in step.said:
            if isinstance(signed.message, Voucher):
                found[signed.message.lease_id] = signed.message.amount
    return found
