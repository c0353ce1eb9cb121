"""Runs what a live node recorded, and compares its times and prices with those of the recording.

One constant of the simulated nodes is fitted to the recording: how long they are busy with each
message. Spec: specs/trace.md#replay.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from node.simulator.engine import TICKS_PER_MS
from node.simulator.manifest import RunDone
from node.simulator.runs import Progress, silence, simulate
from node.simulator.scenario import Scenario
from node.simulator.tables import Columns, Tables
from node.simulator.traces import DONE, RecordedJob, Recording, read_trace

ASPECTS: Final = ("latency", "bandwidth", "supply", "pricing", "demand")
"""What of a world a trace describes."""
US_PER_TICK: Final = 1000 // TICKS_PER_MS
PROCESSING: Final = "processing_us"
PROCESSING_US_MAX: Final = 200_000
FITTED_MAX: Final = 200
"""No more jobs than these are run again and again to fit the constant."""
AFTER_MS: Final = 60_000
"""A run goes on for so long after the end of the trace."""
PERCENTILES: Final = (50, 90)
Pair = tuple[RecordedJob, int]
"""A recorded job, and its row in the table of simulated ones."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One quantity of all jobs that have it in both worlds."""

    name: str
    recorded: tuple[float, ...]
    """Its percentiles, as PERCENTILES."""
    simulated: tuple[float, ...]
    jobs: int

    @property
    def difference_percent(self) -> tuple[float | None, ...]:
        """By how much the simulated one is more, in percent of the recorded one."""
        both = zip(self.recorded, self.simulated, strict=True)
        return tuple(100 * (one - other) / other if other else None for other, one in both)


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came out."""

    tables: Tables
    run: RunDone
    processing_us: int
    fitted: int
    """How many of the first jobs the constant was fitted to; the others are compared."""
    jobs: int
    """How many are compared."""
    done_recorded: float
    """Which share of these were done."""
    done_simulated: float
    measures: tuple[Measure, ...]

    def summary(self) -> dict[str, Any]:
        """Return it for programs."""
        measures = {
            each.name: {
                "jobs": each.jobs,
                **_named("recorded", each.recorded),
                **_named("simulated", each.simulated),
                **_named("difference_percent", each.difference_percent),
            }
            for each in self.measures
        }
        return {
            "processing_us": self.processing_us, "fitted": self.fitted, "compared": self.jobs,
            "done": {"recorded": self.done_recorded, "simulated": self.done_simulated},
            "measures": measures,
        }  # fmt: skip


def scenario_of(path: Path, values: Mapping[str, Any]) -> Scenario:
    """Return the scenario of a trace, in which some values are others.

    InvalidRequest if the trace cannot be read, or there are no such values.
    """
    recording = read_trace(path)
    own: dict[str, Any] = {
        "name": path.stem, "nodes": 1 + len(recording.providers), "requesters": 1,
        "horizon": f"{recording.end_ms + AFTER_MS}ms",
    }  # fmt: skip
    for aspect in ASPECTS:
        own |= {f"{aspect}.model": "recorded", f"{aspect}.file": str(path.absolute())}
    for key, value in values.items():
        aspect, _, name = key.partition(".")
        if name == "model":  # Another model needs no trace.
            own.pop(f"{aspect}.file", None)
        own[key] = value
    return Scenario.of(own)


def replay_trace(
    path: Path, values: Mapping[str, Any], processing_us: int | None, progress: Progress = silence
) -> Replayed:
    """Run a trace and compare; errors as `scenario_of`.

    Without a constant it is fitted to the first half of the jobs, and the others are compared.
    """
    recording, scenario = read_trace(path), scenario_of(path, values)
    gangs = recording.submitted()
    fitted, processing_us = 0, values.get(PROCESSING, processing_us)
    if processing_us is None:
        fitted = min(FITTED_MAX, sum(map(len, gangs[: len(gangs) // 2])))
        processing_us = fit(recording, scenario, range(fitted))
    scenario = scenario.changed({PROCESSING: processing_us})
    tables, run = simulate(scenario, 0, progress)
    pairs = list(pairs_of(recording, tables["jobs"]))[fitted:]
    jobs = tables["jobs"]
    return Replayed(
        tables, run, processing_us, fitted, len(pairs),
        _share([each.outcome == DONE for each, _ in pairs]),
        _share([jobs["outcome"][row] == DONE for _, row in pairs]),
        tuple(compare(pairs, jobs)),
    )  # fmt: skip


def fit(recording: Recording, scenario: Scenario, places: Sequence[int]) -> int:
    """Return the processing time with which the median time to award is as recorded, in µs.

    Only the jobs at these places count, in the order of their submission; the last place is the
    greatest. It is 0 if none of them has an award. KeyboardInterrupt if the user interrupts it.
    """
    submitted = [each for gang in recording.submitted() for each in gang]
    chosen = [submitted[place] for place in places]
    if not any(each.after_ms("awarded") for each in chosen):
        return 0
    horizon_ms = min(recording.end_ms, chosen[-1].job.at_ms) + AFTER_MS
    short = scenario.changed({"horizon": f"{horizon_ms}ms"})

    def excess(ticks: int) -> float:
        """Return how much longer than recorded the median award takes."""
        tables, run = simulate(short.changed({PROCESSING: ticks * US_PER_TICK}))
        if not run.complete:
            raise KeyboardInterrupt
        pairs = list(pairs_of(recording, tables["jobs"]))
        for measure in compare([pairs[place] for place in places], tables["jobs"]):
            if measure.name == "award_ms":
                return measure.simulated[0] - measure.recorded[0]
        return 0.0

    return _root(excess, PROCESSING_US_MAX // US_PER_TICK) * US_PER_TICK


def compare(pairs: Sequence[Pair], jobs: Columns) -> Iterator[Measure]:
    """Yield the measures of jobs, those that have any."""
    for name, (of_recorded, of_row) in MEASURES.items():
        found = [(of_recorded(each), of_row(jobs, row)) for each, row in pairs]
        both = [pair for pair in found if None not in pair]
        if both:
            recorded, simulated = (
                tuple(np.percentile(values, PERCENTILES).tolist())
                for values in zip(*both, strict=True)
            )
            yield Measure(name, recorded, simulated, len(both))


def _after(column: str) -> Callable[[Columns, int], int | None]:
    """Return what tells how long after a job's submission something came."""

    def after(jobs: Columns, row: int) -> int | None:
        at_ms: int | None = jobs[column][row]
        return None if at_ms is None else at_ms - int(jobs["submitted_ms"][row])

    return after


def _end(jobs: Columns, row: int) -> int | None:
    return _after("ended_ms")(jobs, row) if jobs["outcome"][row] == DONE else None


MEASURES: Final[
    Mapping[str, tuple[Callable[[RecordedJob], int | None], Callable[[Columns, int], int | None]]]
] = {
    "award_ms": (lambda job: job.after_ms("awarded"), _after("awarded_ms")),
    "start_ms": (lambda job: job.after_ms("running"), _after("running_ms")),
    "end_ms": (lambda job: job.after_ms(DONE), _end),
    "rate": (lambda job: job.rate, lambda jobs, row: jobs["rate"][row]),
}
"""What is compared: times since the submission, and the rate of the last award."""


def pairs_of(recording: Recording, jobs: Columns) -> Iterator[Pair]:
    """Yield the recorded jobs that were submitted in a run, with their rows: the order is one."""
    submitted = (each for gang in recording.submitted() for each in gang)
    yield from zip(submitted, range(len(jobs["job"])), strict=False)


def _root(excess: Callable[[int], float], most: int) -> int:
    """Return the least number up to `most` for which a growing function is not negative."""
    low, high = -1, most
    while high - low > 1:
        middle = (low + high) // 2
        if excess(middle) < 0:
            low = middle
        else:
            high = middle
    return high


def _share(held: Sequence[bool]) -> float:
    return sum(held) / len(held) if held else 0.0


def _named(name: str, values: Sequence[float | None]) -> dict[str, float | None]:
    return {f"{name}_p{each}": value for each, value in zip(PERCENTILES, values, strict=True)}
