"""M5: what a user is told that an attempt cost is what was promised for its lease.

Spec: specs/core.md#job-events.
"""

from collections.abc import Iterator
from typing import Final

from protocol.machines.events import Awarded, Done, Failed, Retrying
from protocol.values.ids import LeaseId
from protocol.wire.messages import Voucher
from tests.faults.network import FaultyNetwork

NAME: Final = "M5 the told cost"


def at_end(network: FaultyNetwork) -> Iterator[str]:
    promised: dict[LeaseId, int] = {}
    for fact in network.history.sent:
        if isinstance(fact.signed.message, Voucher):
            voucher = fact.signed.message
            promised[voucher.lease_id] = max(promised.get(voucher.lease_id, 0), voucher.amount)
    for node, job_id in network.jobs:
        if not node.online:
            continue
        due = 0
        for event in node.disk.events[job_id]:
            match event:
                case Awarded(_, lease_id):
                    due = promised.get(lease_id, 0)
                case Retrying() | Failed() | Done():
                    if event.amount != due and node.peer_id not in network.clock_was_set:
                        yield f"{event.amount} told, {due} promised"
                    due = 0
