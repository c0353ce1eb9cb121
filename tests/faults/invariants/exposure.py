"""M3: no container runs further than its vouchers and the exposure limit cover.

Spec: specs/lease.md#exposure. It holds at every instant, also while the daemon is dead: what counts
is the voucher on the disk.
"""

from collections.abc import Iterator
from typing import Final

from protocol.machines.provider import lease
from protocol.rules.metering import exposure_of
from tests.faults.network import FaultyNetwork
from tests.simulated_node import Node

NAME: Final = "M3 exposure is bounded"


def at_step(network: FaultyNetwork, node: Node) -> Iterator[str]:
    for other in network.nodes.values():
        for lease_id, container in other.containers.items():
            state = other.disk.saved.get(("provider-lease", lease_id))
            if container.exited or not isinstance(state, lease.Serving | lease.Leaving):
                continue
            free_ms = other.policy.notice_ms if isinstance(state, lease.Leaving) else 0
            bound_ms = state.paid_ms + exposure_of(state.paid_ms) + free_ms
            if container.used_ms(network.now_ms) > bound_ms:
                yield f"{other.name} runs a container beyond what is paid"
