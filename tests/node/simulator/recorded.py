"""Small runs that are recorded, for the tests of results.

Spec: specs/simulation-results.md.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

from node.simulator.manifest import RunDone
from node.simulator.recorder import Recorder
from node.simulator.results import RunResults, write
from node.simulator.simulation import Simulation, World
from node.simulator.world.churn import Weibull
from node.simulator.world.demand import Burst, Poisson

HORIZON_MS = 400_000
CALM = World(nodes=40, requesters=3, demand=Burst(jobs=30, work=20_000))
"""All jobs come at once, and end."""
ROUGH = World(
    nodes=40, requesters=3, demand=Poisson(per_minute=20, work=20_000),
    churn=Weibull(session=60_000, away=30_000),
)  # fmt: skip
"""Jobs come all the time, and nodes go."""


def simulated(world: World, horizon_ms: int = HORIZON_MS, every: int = 0, seed: int = 1) -> Any:
    """Return a simulation that has run, and its recorder."""
    simulation = Simulation(world, "flow", seed)
    recorder = Recorder(simulation, every)
    simulation.run(horizon_ms)
    return simulation, recorder


@lru_cache
def run_of(world: World) -> Any:
    """Return a simulation and its tables; the same for each test."""
    simulation, recorder = simulated(world, every=1)
    return simulation, recorder.tables()


def write_run(folder: Path, seed: int = 1, **parameters: Any) -> RunResults:
    """Write one run as if its seed and its place in a sweep were others; it served seed / 10."""
    simulation, tables = run_of(CALM)
    done = RunDone(
        "study", seed, "flow", "{}", 0, simulation.engine.events, simulation.network.digest.hex(),
        "2026-01-01T00:00:00+00:00", "2026-01-01T00:01:00+00:00", parameters,
    )  # fmt: skip
    summary = {**tables["summary"], "served": [seed / 10]}
    return write(folder, {**tables, "summary": summary}, done)
