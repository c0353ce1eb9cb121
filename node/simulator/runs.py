"""Runs a scenario, and writes what comes out.

A run is made anew from its scenario and the number of its repetition alone: nothing of it depends
on where, when or beside what it runs. Spec: specs/simulation.md#runs.
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from node.simulator.manifest import RunDone
from node.simulator.recorder import Recorder
from node.simulator.results import RunResults, write
from node.simulator.scenario import Scenario
from node.simulator.simulation import STACK, Simulation
from node.simulator.tables import Tables

if TYPE_CHECKING:
    from node.simulator.stack.simulation import StackSimulation

STEPS: Final = 200
"""How often a run tells its progress."""
Progress = Callable[[int, int], None]
"""Is told how many milliseconds of virtual time have passed, and of how many."""


def silence(_done_ms: int, _all_ms: int) -> None:
    """Show nothing."""


def run(
    scenario: Scenario, folder: Path, repetition: int = 0, progress: Progress = silence
) -> RunResults:
    """Run a scenario once, and write its tables and its manifest into a new folder.

    Conflict if the folder exists; StorageFull if the disk is full. Otherwise as `simulate`.
    """
    return write(folder, *simulate(scenario, repetition, progress))


def simulate(
    scenario: Scenario, repetition: int = 0, progress: Progress = silence
) -> tuple[Tables, RunDone]:
    """Run a scenario once; return its tables, and what its manifest says.

    After an interruption (Ctrl-C) the results are those up to then, and the manifest says so.
    """
    started = datetime.now(UTC).isoformat(timespec="seconds")
    seed, horizon_ms = scenario.seed_of(repetition), scenario.settings.horizon
    tier = scenario.settings.tier
    with _without_collections(tier):
        simulation = _simulation(scenario, seed)
        recorder = Recorder(simulation, scenario.settings.events)
        is_complete = _advance(simulation, horizon_ms, progress)
        tables = recorder.tables()
    done = RunDone(
        scenario.settings.name, seed, tier, scenario.text(), repetition,
        simulation.engine.events, simulation.network.digest.hex(), started,
        datetime.now(UTC).isoformat(timespec="seconds"), dict(scenario.point), is_complete,
    )  # fmt: skip
    return tables, done


def _simulation(scenario: Scenario, seed: int) -> "Simulation | StackSimulation":
    if scenario.settings.tier != STACK:
        return Simulation(scenario.world, scenario.settings.tier, seed)
    from node.simulator.stack.simulation import (  # noqa: PLC0415 - it imports the whole node.
        StackSimulation,
    )

    return StackSimulation(scenario.world, seed)


def _advance(
    simulation: "Simulation | StackSimulation", horizon_ms: int, progress: Progress
) -> bool:
    """Let everything happen up to the horizon; return False if the user interrupts it."""
    try:
        if not isinstance(simulation, Simulation):
            simulation.run(horizon_ms, STEPS, progress)
            return True
        simulation.start(horizon_ms)
        for step in range(1, STEPS + 1):
            until_ms = horizon_ms * step // STEPS
            simulation.advance(until_ms)
            progress(until_ms, horizon_ms)
    except KeyboardInterrupt:
        return False
    return True


@contextmanager
def _without_collections(tier: str) -> Iterator[None]:
    """Switch the garbage collector off: a run makes few cycles, and it takes a third of the time.

    Not for whole nodes, which make many. See specs/simulation.md#engine.
    """
    was_on = gc.isenabled()
    gc.collect()
    if tier != STACK:
        gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
