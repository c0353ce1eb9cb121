"""What the nodes of a world lend, and for how much.

Spec: specs/simulation-world.md#supply.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from node.simulator.seeds import between, bits, choose
from node.simulator.world.quantities import Meaning
from protocol.rules.capacity import Capacity, Device
from protocol.rules.pricing import PERCENT
from protocol.values.ids import Digest
from protocol.values.units import GIB, rate_of_hourly
from protocol.wire.messages import Prices

DISK_MIB: Final = 100 * GIB


class LentMachine(Protocol):
    """What nodes of one kind lend."""

    @property
    def capacity(self) -> Capacity: ...

    @property
    def images(self) -> tuple[Digest, ...]:
        """Those that it has from the start."""
        ...

    def prices(self, percent: int) -> Prices:
        """Return list prices, in percent of the kind's."""
        ...


@dataclass(frozen=True, slots=True)
class MachineKind:
    """Machines that are alike. Prices are in credits per hour."""

    share: int
    """How many of a thousand nodes are of this kind."""
    cpus: int
    memory_gib: int
    cpu_hour: str
    gpus: int = 0
    gpu_class: str = ""
    vram_gib: int = 0
    gpu_hour: str = "0"

    @property
    def cpu_rate(self) -> int:
        return rate_of_hourly(self.cpu_hour)

    @property
    def gpu_rate(self) -> int:
        return rate_of_hourly(Decimal(self.gpu_hour))

    @property
    def memory_mib(self) -> int:
        return self.memory_gib * GIB

    @property
    def capacity(self) -> Capacity:
        return Capacity(
            self.cpus, self.memory_mib, DISK_MIB,
            devices_of((self.gpu_class, self.vram_gib * GIB) for _ in range(self.gpus)),
        )  # fmt: skip

    @property
    def images(self) -> tuple[Digest, ...]:
        return ()

    def prices(self, percent: int) -> Prices:
        return Prices(self.cpu_rate * percent // PERCENT, 0, self.gpu_rate * percent // PERCENT)


MIX: Final = (
    MachineKind(300, 8, 16, "0.010"),
    MachineKind(60, 64, 256, "0.008"),
    MachineKind(180, 8, 16, "0.010", 1, "rtx3060", 12, "0.06"),
    MachineKind(170, 12, 32, "0.010", 1, "rtx3090", 24, "0.15"),
    MachineKind(200, 16, 64, "0.010", 1, "rtx4090", 24, "0.30"),
    MachineKind(50, 32, 128, "0.010", 4, "a100", 80, "0.90"),
    MachineKind(40, 64, 512, "0.010", 8, "h100", 80, "1.90"),
)
"""Home machines for the most part; lists of what consumer markets offer (markets.md in spirit,
specs/simulation-world.md#supply for the sources)."""


class Supply(Protocol):
    """A model of what nodes lend."""

    @property
    def kinds(self) -> Sequence[LentMachine]: ...

    def kind_of(self, nodes: int, seed: int) -> NDArray[np.int64]:
        """Return the kind of each node, as an index."""
        ...

    def price_percent(self, nodes: int, seed: int) -> NDArray[np.int64]:
        """Return the list price of each node, in percent of its kind's."""
        ...


@dataclass(frozen=True, slots=True)
class Mix:
    """Seven kinds of machines, from a home computer without a GPU to eight H100."""

    least_percent: Annotated[int, Meaning("the lowest list price, in percent of the kind's", 1)] = (
        60
    )
    most_percent: Annotated[int, Meaning("the highest list price, in the same way", 1)] = 160

    @property
    def kinds(self) -> tuple[MachineKind, ...]:
        return MIX

    def kind_of(self, nodes: int, seed: int) -> NDArray[np.int64]:
        shares = [kind.share for kind in self.kinds]
        return choose(bits(seed, "supply/kinds", nodes), shares)

    def price_percent(self, nodes: int, seed: int) -> NDArray[np.int64]:
        return between(bits(seed, "supply/prices", nodes), self.least_percent, self.most_percent)


@dataclass(frozen=True, slots=True)
class Equal:
    """All nodes are alike but for their prices."""

    cpus: Annotated[int, Meaning("processors", 1, 4096)] = 4
    memory_gib: Annotated[int, Meaning("memory", 1, 2**20)] = 8
    cpu_hour: Annotated[
        str, Meaning("the middle list price, in credits per hour and processor")
    ] = "0.010"
    spread_percent: Annotated[int, Meaning("how far prices are from it at most", 0, 99)] = 50

    @property
    def kinds(self) -> tuple[MachineKind, ...]:
        return (MachineKind(1, self.cpus, self.memory_gib, self.cpu_hour),)

    def kind_of(self, nodes: int, seed: int) -> NDArray[np.int64]:
        return np.zeros(nodes, np.int64)

    def price_percent(self, nodes: int, seed: int) -> NDArray[np.int64]:
        drawn = bits(seed, "supply/prices", nodes)
        return between(drawn, 100 - self.spread_percent, 100 + self.spread_percent)


def devices_of(gpus: Iterable[tuple[str, int]]) -> tuple[Device, ...]:
    """Return the GPUs of a node: the class and the memory in MiB of each."""
    return tuple(Device(f"GPU-{place}", *each) for place, each in enumerate(gpus))
