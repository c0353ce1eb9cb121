"""How nodes find the addresses of others that they want to reach.

Spec: specs/simulation.md#directory.
"""

from dataclasses import dataclass
from typing import Annotated, Protocol

from node.simulator.kademlia import LookupRules
from node.simulator.world.quantities import Duration, Meaning


class AddressModel(Protocol):
    """A model of how addresses are found."""

    def rules(self) -> LookupRules | None:
        """Return how nodes look others up in the DHT; None if they know all addresses."""
        ...


@dataclass(frozen=True, slots=True)
class SharedAddresses:
    """All know everybody's addresses."""

    def rules(self) -> LookupRules | None:
        return None


@dataclass(frozen=True, slots=True)
class DhtAddresses:
    """A node looks up each node that it wants to reach, message by message (Kademlia)."""

    k: Annotated[int, Meaning("nodes in an answer, and in a bucket", 1, 100)] = 20
    parallel: Annotated[int, Meaning("requests on their way at most", 1, 100)] = 10
    limit: Annotated[Duration, Meaning("how long a node is looked for at most")] = Duration(5_000)

    def rules(self) -> LookupRules:
        return LookupRules(self.k, self.parallel, limit_ms=self.limit, in_rounds=True)
