"""An example of what another package adds to the laboratory: a latency model and an adversary.

Why: a paper's models live in its own repository, and its readers install them.
Spec: specs/simulation-world.md#plug-ins.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from node.simulator.engine import TICKS_PER_MS
from node.simulator.seeds import between, bits
from node.simulator.world.adversaries import Adversaries, AnyCore, Deviation
from node.simulator.world.latency import Links, Numbers, Ticks
from node.simulator.world.quantities import Meaning
from protocol.core.core import Core
from protocol.machines.effects import Effect
from protocol.machines.inputs import Input
from protocol.wire.envelope import Signed
from protocol.wire.messages import Call


@dataclass(frozen=True, slots=True)
class Islands:
    """Nodes live on islands: messages are quick within one, and slow between two."""

    islands: Annotated[int, Meaning("how many there are", 1, 1000)] = 4
    near_ms: Annotated[float, Meaning("the time one way within an island", 0.1)] = 2.0
    far_ms: Annotated[float, Meaning("the time one way between two", 0.1)] = 120.0

    def links(self, nodes: int, seed: int) -> Links:
        """Return the latencies of a world with so many nodes."""
        island = between(bits(seed, "islands", nodes), 0, self.islands - 1)
        near, far = (round(each * TICKS_PER_MS) for each in (self.near_ms, self.far_ms))
        return _Links(
            tuple(f"island-{number}" for number in range(self.islands)), island, near, far
        )


@dataclass(slots=True)
class _Links:
    regions: tuple[str, ...]
    region: NDArray[np.int64]
    near: int
    far: int

    def ticks(self, one: Numbers, other: Numbers) -> Ticks:
        return np.where(self.region[one] == self.region[other], self.near, self.far).astype(
            np.int32
        )


class _Asleep(Deviation):
    def handle(self, event: Input, now_ms: int) -> list[Effect]:
        is_call = isinstance(event, Signed) and isinstance(event.message, Call)
        return [] if is_call else super().handle(event, now_ms)


@dataclass(frozen=True, slots=True)
class Sleepy(Adversaries):
    """Lenders that offer machines and never bid."""

    def corrupt(self, core: Core) -> AnyCore:
        """Return what a sleepy node has instead of an honest core."""
        return _Asleep(core)
