"""No honest node ever takes an input that its tables call illegal.

Spec: specs/core.md#machines.
"""

from collections.abc import Iterator
from typing import Final

from tests.faults.network import FaultyNetwork
from tests.simulated_node import Node

NAME: Final = "nothing illegal"


def at_step(network: FaultyNetwork, node: Node) -> Iterator[str]:
    yield from node.core.illegal
