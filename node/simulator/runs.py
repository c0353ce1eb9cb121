"""Runs a scenario, and returns what comes out.

A run is made anew from its scenario and the number of its repetition alone: nothing of it depends
on where, when or beside what it runs. Spec: specs/simulation.md#runs.
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

from node.simulator.recorder import Recorder
from node.simulator.results import Results, manifest_of
from node.simulator.scenario import Scenario
from node.simulator.simulation import Simulation

STEPS: Final = 200
"""How often a run tells its progress."""
Progress = Callable[[int, int], None]
"""Is told how many milliseconds of virtual time have passed, and of how many."""


def _silence(_done_ms: int, _all_ms: int) -> None:
    """Show nothing."""


def run(scenario: Scenario, repetition: int = 0, progress: Progress = _silence) -> Results:
    """Run a scenario once; return its tables and its manifest.

    After an interruption (Ctrl-C) the results are those up to then, and the manifest says so.
    """
    began = _wall_clock()
    with _without_collections():
        simulation = Simulation(
            scenario.world, scenario.settings.tier, scenario.seed_of(repetition)
        )
        recorder = Recorder(simulation, scenario.settings.events)
        until_ms = _advance(simulation, scenario.settings.horizon, progress)
        tables = recorder.tables()
    wall = began, _wall_clock()
    return Results(manifest_of(scenario, repetition, simulation, until_ms, wall), tables)


def _advance(simulation: Simulation, horizon_ms: int, progress: Progress) -> int:
    """Let everything happen up to the horizon or an interruption; return the time, in ms."""
    until_ms = 0
    try:
        simulation.start(horizon_ms)
        for step in range(1, STEPS + 1):
            simulation.advance(horizon_ms * step // STEPS)
            until_ms = horizon_ms * step // STEPS
            progress(until_ms, horizon_ms)
    except KeyboardInterrupt:
        return until_ms
    return until_ms


def _wall_clock() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@contextmanager
def _without_collections() -> Iterator[None]:
    """Switch the garbage collector off: a run makes few cycles, and it takes a third of the time.

    See specs/simulation.md#engine.
    """
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
