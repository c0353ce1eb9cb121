"""How long a message takes from one node to another.

Every model gives the same time to a pair of nodes whenever it is asked, in both directions: half of
its usual round trip. So messages of a pair do not overtake each other, and a flood can be computed
at once. Spec: specs/simulation-world.md#latency.
"""

import csv
import math
from dataclasses import dataclass, field
from pathlib import Path
from statistics import NormalDist
from typing import Annotated, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from node.simulator.engine import TICKS_PER_MS
from node.simulator.seeds import bits, choose, pair_hash
from node.simulator.world.quantities import Meaning
from protocol.values.errors import InvalidRequest

Numbers = NDArray[np.int64]
Ticks = NDArray[np.int32]

REGIONS: Final = {
    "north-america-east": (39, -77, 22), "north-america-west": (37, -122, 13),
    "south-america": (-23, -47, 6), "europe-west": (50, 4, 24), "europe-east": (52, 21, 9),
    "africa": (-1, 37, 2), "middle-east": (25, 55, 3), "india": (19, 73, 5),
    "asia-southeast": (1, 104, 5), "asia-east": (35, 128, 9), "oceania": (-34, 151, 2),
}  # fmt: skip
"""Latitude and longitude of where most machines of a region are, and its share in percent."""
ROUND_TRIP_MS: Final = 50.0
MS_PER_KM: Final = 0.0165
"""A round trip takes ROUND_TRIP_MS + MS_PER_KM for each km: fitted to 5,255 pairs of countries of
RIPE Atlas, with a residual of SPREAD (specs/simulation-world.md#latency)."""
SPREAD: Final = 0.46
ROUND_TRIP_MS_MAX: Final = 100_000
EARTH_KM: Final = 6371.0
STEPS: Final = 1024
NEAR_KM: Final = 400.0
"""Two nodes of one region are about so far apart."""


class Links(Protocol):
    """The latencies of the nodes of one world."""

    regions: tuple[str, ...]
    region: NDArray[np.int64]
    """The region of each node, as an index."""

    def ticks(self, one: Numbers, other: Numbers) -> Ticks:
        """Return the ticks of each pair, one or more."""
        ...


class Latency(Protocol):
    """A model of latencies."""

    def links(self, nodes: int, seed: int) -> Links:
        """Return the latencies of a world with so many nodes."""
        ...


@dataclass(frozen=True, slots=True)
class Regions:
    """Nodes live in eleven regions of the earth; distance decides, with the spread of the real."""

    spread: Annotated[
        float, Meaning("the residual, as the standard deviation of the logarithm", most=2)
    ] = SPREAD

    def links(self, nodes: int, seed: int) -> Links:
        weights = [share for _, _, share in REGIONS.values()]
        region = choose(bits(seed, "latency/regions", nodes), weights)
        base = np.array([[_half_ticks(one, other) for other in REGIONS] for one in REGIONS])
        return _Matrix(tuple(REGIONS), region, base, _quantiles(self.spread), seed)


@dataclass(frozen=True, slots=True)
class Uniform:
    """Each pair has a latency of its own, all equally likely."""

    least_ms: Annotated[float, Meaning("the shortest time one way", 0.1, 10_000)] = 10.0
    most_ms: Annotated[float, Meaning("the longest time one way", 0.1, 10_000)] = 100.0

    def links(self, nodes: int, seed: int) -> Links:
        if self.least_ms > self.most_ms:
            raise InvalidRequest("latency: least_ms is more than most_ms")
        middle = (self.least_ms + self.most_ms) / 2
        factors = np.linspace(self.least_ms, self.most_ms, STEPS) / middle * STEPS
        base = np.array([[round(middle * TICKS_PER_MS)]])
        region = np.zeros(nodes, np.int64)
        return _Matrix(("",), region, base, np.rint(factors).astype(np.int64), seed)


@dataclass(frozen=True, slots=True)
class Matrix:
    """Round trips between regions from a CSV file: names in the first row, then a row for each.

    If those of two regions differ by direction, their mean counts.
    """

    file: Annotated[Path, Meaning("the file: region names, then milliseconds")]
    spread: Annotated[float, Meaning("the residual, as for regions", most=2)] = 0.0

    def links(self, nodes: int, seed: int) -> Links:
        names, round_trips = self._read()
        region = choose(bits(seed, "latency/regions", nodes), [1] * len(names))
        base = np.rint((round_trips + round_trips.T) * TICKS_PER_MS / 4).astype(np.int64)
        return _Matrix(names, region, base, _quantiles(self.spread), seed)

    def _read(self) -> tuple[tuple[str, ...], NDArray[np.float64]]:
        """Return the names and the round trips; raise InvalidRequest if the file is unusable."""
        try:
            read = [row for row in csv.reader(self.file.read_text().splitlines()) if row]
            names = tuple(read[0]) if read else ()
            round_trips = np.array([[float(cell) for cell in row] for row in read[1:]])
        except OSError as error:
            raise InvalidRequest(f"latency: {self.file}: {error.strerror}") from None
        except ValueError as error:
            raise InvalidRequest(f"latency: {self.file}: {error}") from None
        if not names or round_trips.shape != (len(names), len(names)):
            raise InvalidRequest(
                f"latency: {self.file}: {len(names)} names need as many rows of as many round trips"
            )
        if not ((round_trips > 0) & (round_trips <= ROUND_TRIP_MS_MAX)).all():
            raise InvalidRequest(
                f"latency: {self.file}: a round trip takes from 0 to {ROUND_TRIP_MS_MAX} ms"
            )
        return names, round_trips


@dataclass(slots=True)
class _Matrix:
    """Integers alone: the time between two regions, times a factor drawn for each pair."""

    regions: tuple[str, ...]
    region: NDArray[np.int64]
    base: NDArray[np.int64]
    factors: NDArray[np.int64]
    """In units of 1/STEPS, all equally likely."""
    seed: int
    key: int = field(init=False)
    """Of the draw of the factors; seeds that follow each other have nothing in common."""

    def __post_init__(self) -> None:
        self.key = int(bits(self.seed, "latency/pairs", 1)[0])

    def ticks(self, one: Numbers, other: Numbers) -> Ticks:
        drawn = pair_hash(one, other, self.key) % np.uint64(len(self.factors))
        base = self.base[self.region[one], self.region[other]]
        ticks: Ticks = (base * self.factors[drawn.astype(np.intp)] // STEPS).astype(np.int32)
        return np.maximum(ticks, 1)


def _half_ticks(one: str, other: str) -> int:
    km = NEAR_KM if one == other else _distance_km(REGIONS[one], REGIONS[other])
    return round((ROUND_TRIP_MS + MS_PER_KM * km) / 2 * TICKS_PER_MS)


def _distance_km(one: tuple[int, int, int], other: tuple[int, int, int]) -> float:
    """Return the distance of two points on the sphere (haversine)."""
    phi, psi = math.radians(one[0]), math.radians(other[0])
    chord = math.sin((psi - phi) / 2) ** 2
    chord += math.cos(phi) * math.cos(psi) * math.sin(math.radians(other[1] - one[1]) / 2) ** 2
    return 2 * EARTH_KM * math.asin(math.sqrt(chord))


def _quantiles(spread: float) -> NDArray[np.int64]:
    """Return STEPS equally likely factors of a lognormal distribution with the median 1."""
    normal = NormalDist()
    places = [(step + 0.5) / STEPS for step in range(STEPS)]
    return np.array([round(math.exp(spread * normal.inv_cdf(each)) * STEPS) for each in places])
