"""How lenders choose the least that they ask; between it and the list price, load decides.

Spec: specs/simulation-world.md#pricing.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Final, Protocol, runtime_checkable

from node.simulator.world.quantities import Meaning
from protocol.rules.pricing import FLOOR_PERCENTS, PERCENT, floor_percent_of
from protocol.values.errors import InvalidRequest

FILES_KEPT_MAX: Final = 4
LIST_PERCENT_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class PriceChange:
    """A node's prices from now on."""

    after_ms: int
    """How long after the change before, or the start."""
    list_percent: int
    """Its list price, in percent of its kind's."""
    floor_percent: int
    """Its floor, in percent of its list price."""


class Pricing(Protocol):
    """A model of floors."""

    @property
    def lowest_percent(self) -> int:
        """No floor is lower than this, in percent of the list price."""
        ...

    def floor_percent(self, secret: bytes) -> int:
        """Return a node's floor, in percent of its list price, from a secret of the node."""
        ...


@runtime_checkable
class ChangingPrices(Pricing, Protocol):
    """A model in which prices change with time."""

    def changes(self, number: int) -> Iterator[PriceChange]:
        """Yield the changes of one node's prices, for as long as anybody asks."""
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


@dataclass(frozen=True, slots=True)
class PriceTrace(DrawnFloors):
    """Prices from a CSV file: node, milliseconds, list price in percent of its kind's, floor.

    A floor is in percent of the list price. Nodes that have no line draw theirs.
    """

    file: Annotated[Path, Meaning("the file, in the order of time for each node")]

    @property
    def lowest_percent(self) -> int:
        rows = self._rows().values()
        floors = (change.floor_percent for changes in rows for change in changes)
        return min([FLOOR_PERCENTS.start, *floors])

    def changes(self, number: int) -> Iterator[PriceChange]:
        yield from self._rows().get(number, ())

    def _rows(self) -> dict[int, list[PriceChange]]:
        try:
            modified_ns = self.file.stat().st_mtime_ns
            return _read(self.file, modified_ns)
        except OSError as error:
            raise InvalidRequest(f"pricing: {self.file}: {error.strerror}") from None


@lru_cache(FILES_KEPT_MAX)
def _read(file: Path, modified_ns: int) -> dict[int, list[PriceChange]]:
    """Return the changes of each node in a file."""
    found: dict[int, list[PriceChange]] = {}
    last_ms: dict[int, int] = {}
    for line, row in enumerate(csv.reader(file.read_text().splitlines()), 1):
        try:
            node, at_ms, listed, floor = map(int, row)
        except ValueError:
            why = "node, milliseconds, list price in percent, floor in percent"
            raise InvalidRequest(f"pricing: {file}, line {line}: {why}") from None
        after_ms = at_ms - last_ms.get(node, 0)
        if after_ms < 0 or not (1 <= listed <= LIST_PERCENT_MAX and 0 <= floor <= PERCENT):
            why = (
                f"times of a node only grow; a list price is 1 to {LIST_PERCENT_MAX} %,"
                f" a floor 0 to {PERCENT} %"
            )
            raise InvalidRequest(f"pricing: {file}, line {line}: {why}")
        last_ms[node] = at_ms
        found.setdefault(node, []).append(PriceChange(after_ms, listed, floor))
    return found
