"""A14: no honest requester is accused, whatever is lost, late or repeated.

Spec: specs/fraud.md#why-an-honest-requester-is-safe.
"""

from collections.abc import Iterator
from typing import Final

from tests.faults.network import FaultyNetwork

NAME: Final = "A14 no honest requester is accused"


def at_end(network: FaultyNetwork) -> Iterator[str]:
    for node in network.nodes.values():
        for accusation in node.disk.proofs:
            yield f"{node.name} accuses a requester: {accusation.finding.why}"
