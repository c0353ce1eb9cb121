"""How lenders choose the least that they ask; between it and the list price, load decides.

Spec: specs/simulation.md#pricing.
"""

from dataclasses import dataclass
from typing import Annotated, Protocol

from node.simulator.world.quantities import Meaning
from protocol.rules.pricing import FLOOR_PERCENTS, floor_percent_of


class Pricing(Protocol):
    """A model of floors."""

    @property
    def lowest_percent(self) -> int:
        """No floor is lower than this, in percent of the list price."""
        ...

    def floor_percent(self, secret: bytes) -> int:
        """Return a node's floor, in percent of its list price, from a secret of the node."""
        ...


@dataclass(frozen=True, slots=True)
class DrawnFloors:
    """Each node draws its floor as a real one does whose owner sets none: 50 to 90 %."""

    @property
    def lowest_percent(self) -> int:
        return FLOOR_PERCENTS.start

    def floor_percent(self, secret: bytes) -> int:
        return floor_percent_of(secret)


@dataclass(frozen=True, slots=True)
class FixedFloors:
    """All nodes have the same floor; 100 % is to ask the list price always."""

    percent: Annotated[int, Meaning("the floor, in percent of the list price", 0, 100)] = 70

    @property
    def lowest_percent(self) -> int:
        return self.percent

    def floor_percent(self, secret: bytes) -> int:
        return self.percent


@dataclass(frozen=True, slots=True)
class SpreadFloors:
    """Floors are equally likely between two bounds."""

    least_percent: Annotated[int, Meaning("the lowest floor", 0, 100)] = 10
    most_percent: Annotated[int, Meaning("the highest floor", 0, 100)] = 100

    @property
    def lowest_percent(self) -> int:
        return min(self.least_percent, self.most_percent)

    def floor_percent(self, secret: bytes) -> int:
        low, high = sorted((self.least_percent, self.most_percent))
        return low + int.from_bytes(secret[:8]) % (high - low + 1)
