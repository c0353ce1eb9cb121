"""L6: after a restart, each container belongs to a saved lease, or it is removed.

Spec: specs/core.md#recovery.
"""

from collections.abc import Iterator
from typing import Final

from tests.faults.history import Committed
from tests.faults.network import FaultyNetwork
from tests.simulated_node import Node

NAME: Final = "L6 no container without a lease"


def at_step(network: FaultyNetwork, node: Node) -> Iterator[str]:
    last = network.history.facts[-1]
    assert isinstance(last, Committed)
    if last.event is None:
        saved = node.disk.saved
        if any(("provider-lease", lease_id) not in saved for lease_id in node.containers):
            yield f"{node.name} keeps a container without a lease"
