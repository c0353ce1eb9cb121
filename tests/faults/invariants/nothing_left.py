"""L5: after all deadlines nothing is held, runs or waits, even if a requester died for ever.

Spec: specs/core.md#recovery.
"""

from collections.abc import Iterator
from typing import Final

from tests.faults.network import FaultyNetwork

NAME: Final = "L5 nothing is left"


def at_end(network: FaultyNetwork) -> Iterator[str]:
    for node in network.nodes.values():
        if any(network.is_running(node, lease_id) for lease_id in node.containers):
            yield f"{node.name}: a container runs"
        if not node.online:
            continue
        if node.containers:
            yield f"{node.name}: a run folder is left"
        left = {f"{table} {type(state).__name__}" for (table, _), state
                in node.disk.saved.items() if table != "job"}  # fmt: skip
        if left:
            yield f"{node.name}: {', '.join(sorted(left))}"
        if node.disk.outbox or node.in_memory:
            yield f"{node.name}: a message waits"
        if node.core.next_deadline_ms() != node.core.presence.refresh_ms:
            yield f"{node.name}: a deadline that is not the refresh of its record"
        if node.core.status(network.now_ms).free != node.policy.capacity:
            yield f"{node.name}: capacity is held"
