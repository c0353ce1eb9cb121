"""M6: a provider accepts no award of a requester that owes it more than its credit and the limit.

Spec: specs/standing.md#unpaid. What is owed is seen from outside: what the containers have used and
the bills say, less the vouchers on the disk. It is less than what the provider counts.
"""

from collections.abc import Iterator
from typing import Any, Final

from protocol.machines.provider import lease
from protocol.rules.standing import CREDIT_DIVISOR
from protocol.values.ids import PeerId
from protocol.wire.messages import AwardAccept
from tests.faults.history import Committed
from tests.faults.network import FaultyNetwork
from tests.simulated_node import Node

NAME: Final = "M6 debts are bounded"


def at_step(network: FaultyNetwork, node: Node) -> Iterator[str]:
    step = network.history.facts[-1]
    if not isinstance(step, Committed) or node.peer_id in network.clock_was_set:
        return
    accepted = {signed.message.lease_id for signed in step.said
                if isinstance(signed.message, AwardAccept)}  # fmt: skip
    states = network.states(node, "provider-lease")
    for new in states:
        if new.hold.lease_id in accepted and isinstance(new, lease.Held):
            requester = new.hold.requester
            owed_ms = sum(_owed_ms(network, node, state) for state in states
                          if state.hold.requester == requester)  # fmt: skip
            if owed_ms > _credit_ms(node, requester) + network.rules.unpaid_ms_max:
                yield f"{node.name} serves a requester that owes too much"


def _owed_ms(network: FaultyNetwork, node: Node, state: Any) -> int:
    """Return the usage under a lease that no voucher covers."""
    container = node.containers.get(state.hold.lease_id)
    if isinstance(state, lease.Serving) and container is not None and container.exited is None:
        return max(0, container.used_ms(network.now_ms) - state.paid_ms)
    if isinstance(state, lease.Settling) and state.receipt.amount:
        receipt = state.receipt
        uncovered = max(0, receipt.amount - lease.promised(state.voucher))
        return receipt.usage_ms * uncovered // receipt.amount
    return 0


def _credit_ms(node: Node, requester: PeerId) -> int:
    """Return a part of what the requester has paid for, by the receipts that both signed."""
    paid = (
        each.usage_ms
        for each in node.disk.receipts.values()
        if each.requester == requester and each.provider == node.peer_id and each.countersign
    )
    return sum(paid) // CREDIT_DIVISOR
