"""What a validation is made of: studies that run once per seed, targets, and the verdict on each.

Spec: specs/validation.md#verdict.
"""

import math
import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from statistics import fmean, stdev
from typing import Any, Final

from scipy import stats

CONFIDENCE: Final = 0.95
FORK: Final = multiprocessing.get_context("fork")


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is computed; less widens the intervals, and changes no target."""

    seeds: int = 10
    publishers: int = 10
    """How many messages each network of the gossip studies spreads."""
    lookups: int = 300
    """How many lookups in each network of nodes, and each size."""
    sizes: tuple[int, ...] = (100, 1_000, 10_000, 100_000)
    """The sizes of these networks."""
    auctions: int = 10_000
    """How many auctions of each kind."""
    markets: int = 300
    """How many markets, each with many jobs."""
    pushes: int = 5
    """How many rumours are pushed in networks of each size."""
    minutes: int = 2
    """How many minutes of virtual time whole nodes run."""
    worlds: int = 100
    """How many seeds each marketplace has: one market for each."""
    devnets: int = 3
    """How many networks of real processes."""
    devnet_rounds: int = 15
    """How many rounds of jobs in each of them."""


FULL: Final = Effort()
QUICK: Final = Effort(10, 3, 100, (100, 1_000, 10_000), 1_200, 60, 1, 1, 1, devnets=0)


@dataclass(frozen=True, slots=True)
class Target:
    """A result that was published, and how near ours must come."""

    key: str
    what: str
    published: str
    low: float
    high: float
    """The bounds of what is accepted."""
    source: str
    digits: int = 3


@dataclass(frozen=True, slots=True)
class Study:
    """Targets that one computation serves."""

    name: str
    measure: Callable[[Effort, int], Mapping[str, float]]
    """Returns a value for each target, by its key, from an effort and a seed."""
    targets: tuple[Target, ...]
    seeds_least: int = 1
    """Studies whose values spread widely have no fewer seeds than these."""
    seeds_of: Callable[[Effort], int] = attrgetter("seeds")
    """Which of the numbers of an effort is that of its seeds."""
    is_live: bool = False
    """Whether it measures real processes: then nothing else runs meanwhile."""

    def seeds(self, effort: Effort) -> int:
        """Return how often it is computed; 0: not at all."""
        return effort.devnets if self.is_live else max(self.seeds_of(effort), self.seeds_least)


@dataclass(frozen=True, slots=True)
class Check:
    """What came out for a target."""

    target: Target
    values: tuple[float, ...]
    """One for each seed."""

    @property
    def mean(self) -> float:
        return fmean(self.values)

    @property
    def half_width(self) -> float:
        """Half of the 95 % interval of the mean over seeds, by Student's t; 0 for one seed."""
        count = len(self.values)
        if count < 2:
            return 0.0
        quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1))
        return quantile * stdev(self.values) / math.sqrt(count)

    @property
    def has_passed(self) -> bool:
        return self.target.low <= self.mean <= self.target.high

    def row(self) -> dict[str, Any]:
        """Return it for programs; infinite bounds are null."""
        target = self.target
        low, high = (each if math.isfinite(each) else None for each in (target.low, target.high))
        return {
            "key": target.key, "what": target.what, "published": target.published, "low": low,
            "high": high, "mean": self.mean, "half_width": self.half_width,
            "seeds": len(self.values), "passed": self.has_passed, "source": target.source,
        }  # fmt: skip


def near(value: float, percent: float) -> tuple[float, float]:
    """Return the bounds so many percent from a published value."""
    return value * (1 - percent / 100), value * (1 + percent / 100)


def evaluate(
    studies: Sequence[Study], effort: Effort, workers: int
) -> Iterator[tuple[str, Sequence[Check]]]:
    """Run the studies; yield what was done after each seed, and the checks after its last.

    Those that measure real processes come last, one at a time.
    """
    studies = sorted(studies, key=lambda study: study.is_live)
    seeds = [study.seeds(effort) for study in studies]
    tasks = [
        (study, effort, seed)
        for study, count in zip(studies, seeds, strict=True) for seed in range(count)
    ]  # fmt: skip
    values = _measured(tasks, workers)
    for study, count in zip(studies, seeds, strict=True):
        measured: list[Mapping[str, float]] = []
        for done in range(1, count + 1):
            measured.append(next(values))
            checks = _checks(study, measured) if done == count else ()
            yield f"{study.name}: {done} of {count} seeds", checks


def _measured(
    tasks: Sequence[tuple[Study, Effort, int]], workers: int
) -> Iterator[Mapping[str, float]]:
    simulated = [task for task in tasks if not task[0].is_live]
    if workers == 1:
        yield from map(_measure, simulated)
    else:
        with FORK.Pool(workers) as pool:
            yield from pool.imap(_measure, simulated)
    yield from map(_measure, (task for task in tasks if task[0].is_live))


def _measure(task: tuple[Study, Effort, int]) -> Mapping[str, float]:
    study, effort, seed = task
    return study.measure(effort, seed)


def _checks(study: Study, measured: Sequence[Mapping[str, float]]) -> list[Check]:
    return [
        Check(target, tuple(float(values[target.key]) for values in measured))
        for target in study.targets
    ]
