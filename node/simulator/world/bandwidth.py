"""How fast the lines of nodes are, in each direction.

Spec: specs/simulation-world.md#bandwidth.
"""

from dataclasses import dataclass
from typing import Annotated, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from node.simulator.engine import TICKS_PER_MS
from node.simulator.seeds import bits, choose
from node.simulator.world.quantities import Meaning

Rates = NDArray[np.int64]
"""Bytes per tick of each node."""
HOMES: Final = ((30, 50, 10), (30, 100, 40), (20, 300, 50), (20, 1_000, 1_000))
"""Shares in percent, and Mbit/s down and up: DSL, cable, fast cable, fibre."""
MBIT_MOST: Final = 400_000.0


class Bandwidth(Protocol):
    """A model of bandwidth."""

    def rates(self, nodes: int, seed: int) -> tuple[Rates, Rates]:
        """Return how fast each node sends, and how fast it receives."""
        ...


@dataclass(frozen=True, slots=True)
class EqualLines:
    """All lines are alike, and as fast in both directions."""

    mbit: Annotated[float, Meaning("Mbit/s", 0.1, MBIT_MOST)] = 100.0

    def rates(self, nodes: int, seed: int) -> tuple[Rates, Rates]:
        alike = np.full(nodes, rate_of(self.mbit), np.int64)
        return alike, alike


@dataclass(frozen=True, slots=True)
class Homes:
    """Lines of homes: most are slower up than down."""

    percent: Annotated[float, Meaning("all rates, in percent", 0.1, 10_000)] = 100.0

    def rates(self, nodes: int, seed: int) -> tuple[Rates, Rates]:
        kind = choose(bits(seed, "bandwidth", nodes), [share for share, _, _ in HOMES])
        down = np.array([rate_of(rate * self.percent / 100) for _, rate, _ in HOMES])
        up = np.array([rate_of(rate * self.percent / 100) for _, _, rate in HOMES])
        return up[kind], down[kind]


def rate_of(mbit: float) -> int:
    """Return the bytes per tick of so many Mbit/s, at least 1."""
    return max(1, round(mbit * 1_000_000 / 8 / 1000 / TICKS_PER_MS))
