"""L1: what a provider has promised, and what its containers use, never exceeds what it lends.

Spec: specs/lease.md#capacity. It holds at every commit; what is promised is read from the disk.
"""

from collections.abc import Iterator
from typing import Final

from protocol.machines.provider import lease
from tests.faults.network import FaultyNetwork
from tests.simulated_node import Node

NAME: Final = "L1 capacity"


def at_step(network: FaultyNetwork, node: Node) -> Iterator[str]:
    total = node.policy.capacity
    states = network.states(node, "provider-lease")
    held = [reserved for state in states if (reserved := lease.reserved(state)) is not None]
    if sum(reservation.resources.cpus for reservation in held) > total.cpus:
        yield f"{node.name} promises more processors than it has"
    if sum(reservation.resources.memory_mib for reservation in held) > total.memory_mib:
        yield f"{node.name} promises more memory than it has"
    running = [state for state in states if isinstance(state, lease.Serving)
               and network.is_running(node, state.hold.lease_id)]  # fmt: skip
    if sum(state.hold.resources.cpus for state in running) > total.cpus:
        yield f"{node.name} runs more than it has"
