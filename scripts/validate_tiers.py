"""Validation of the tier message against whole nodes: the tier stack, on the same worlds.

Spec: specs/validation.md#tiers.
"""

from collections.abc import Mapping
from statistics import fmean
from typing import Any, Final

from node.simulator.recorder import Recorder
from node.simulator.simulation import MESSAGE, Simulation, World
from node.simulator.stack.simulation import StackSimulation
from node.simulator.tables import Tables
from node.simulator.world.demand import Poisson
from node.simulator.world.quantities import Duration
from scripts.validate_studies import Effort, Study, Target

WORLD: Final = World(
    nodes=12, requesters=2, crypto=True,
    demand=Poisson(per_minute=6.0, image_mib=1, work=Duration(5_000)),
)  # fmt: skip
MINUTE_MS: Final = 60_000


def compare(effort: Effort, seed: int) -> Mapping[str, float]:
    """Run one world in both tiers; measure how they differ."""
    horizon_ms = effort.minutes * MINUTE_MS
    message, stack = _in_message(seed, horizon_ms), _in_stack(seed, horizon_ms)
    jobs = message["jobs"], stack["jobs"]
    assert jobs[0]["job"] == jobs[1]["job"], "both tiers have the same jobs"
    sent = [tables["summary"]["messages"][0] for tables in (message, stack)]
    winners = [
        one == other for one, other in zip(*(each["provider"] for each in jobs), strict=True)
    ]
    return {
        "T award": _more(*_times_to_award(*jobs)),
        "T winner": 100 * fmean(winners),
        "T messages": _more(*sent),
    }


def _in_message(seed: int, horizon_ms: int) -> Tables:
    simulation = Simulation(WORLD, MESSAGE, seed)
    recorder = Recorder(simulation)
    simulation.run(horizon_ms)
    return recorder.tables()


def _in_stack(seed: int, horizon_ms: int) -> Tables:
    simulation = StackSimulation(WORLD, seed)
    recorder = Recorder(simulation)
    simulation.run(horizon_ms, 1, lambda _done, _all: None)
    return recorder.tables()


def _times_to_award(*tiers: Mapping[str, Any]) -> tuple[float, float]:
    """Return the mean times to award of the jobs that had an auction of their own in both tiers."""
    rows = [
        list(zip(jobs["submitted_ms"], jobs["announced_ms"], jobs["awarded_ms"], strict=True))
        for jobs in tiers
    ]
    both = [pair for pair in zip(*rows, strict=True) if all(None not in row for row in pair)]
    one, other = (fmean(pair[tier][2] - pair[tier][0] for pair in both) for tier in (0, 1))
    return one, other


def _more(one: float, other: float) -> float:
    """Return how much more the other is than the one, in percent."""
    return 100 * (other - one) / one


SOURCE: Final = "no publication: the core alone, and whole nodes, in one world"
STUDIES: Final = (
    Study("T whole nodes", compare, (
        Target("T award", "time to award, more than in message (%)", "0 ± 5", -5, 5, SOURCE, 1),
        Target("T winner", "jobs with the same provider (%)", "at least 80", 80, 100, SOURCE, 1),
        Target("T messages", "messages, more than in message (%)", "0 ± 6", -6, 6, SOURCE, 1),
    )),
)  # fmt: skip
