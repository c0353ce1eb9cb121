"""L9: capacity that nothing uses is held for a bounded time, and released at its deadline.

Spec: specs/lease.md#provider.
"""

from collections.abc import Iterator
from typing import Final

from protocol.machines.inputs import DeadlineReached
from protocol.machines.provider import lease
from protocol.values.limits import (
    DEPLOY_WAIT_MS,
    GANG_WAIT_MS,
    HEARTBEAT_MS,
    HELD_MS,
    MEASURING_MS,
)
from tests.faults.history import Committed
from tests.faults.network import FaultyNetwork
from tests.simulated_node import Node

NAME: Final = "L9 holds end"
LONGEST_MS: Final = {
    lease.Held: HELD_MS, lease.Active: DEPLOY_WAIT_MS, lease.Waiting: HEARTBEAT_MS,
    lease.Preparing: HEARTBEAT_MS,
}  # fmt: skip


def at_step(network: FaultyNetwork, node: Node) -> Iterator[str]:
    last, now_ms = network.history.facts[-1], network.now_ms - node.behind_ms
    assert isinstance(last, Committed)
    reached = isinstance(last.event, DeadlineReached)
    for state in node.core.provider.leases.values():
        longest_ms = LONGEST_MS.get(type(state))
        if longest_ms is None:
            continue
        if isinstance(state, lease.Held) and state.others:
            longest_ms = MEASURING_MS
        until_ms = state.until_ms if isinstance(state, lease.Waiting) else 0
        if state.deadline_ms > now_ms + longest_ms or until_ms > now_ms + GANG_WAIT_MS:
            yield f"{node.name} holds {type(state).__name__} too long"
        if reached and state.deadline_ms <= now_ms:
            yield f"{node.name} keeps {type(state).__name__} beyond its deadline"
