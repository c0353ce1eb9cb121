"""Many runs: every point of a sweep, every repetition, on the processors of one machine or of many.

Runs are independent of each other, so they are the same wherever they run. Each leaves a folder
when it has ended; a sweep that is started again runs those that are missing.
Spec: specs/simulation.md#sweeps.
"""

import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import joblib

from node.simulator import manifest
from node.simulator.results import RunResults, load
from node.simulator.runs import Progress, run, silence
from node.simulator.scenario import Scenario
from protocol.values.errors import InvalidRequest

JOBLIB_NAMES: Final = {"processes": "loky", "dask": "dask", "ray": "ray"}
BACKENDS: Final = tuple(JOBLIB_NAMES)
RAY_TASKS: Final = 4
"""How many tasks for each processor Ray gets at a time."""
INSTALL: Final = {"dask": "distributed", "ray": "ray"}


@dataclass(frozen=True, slots=True)
class Task:
    """One run of a sweep."""

    scenario: Scenario
    repetition: int
    folder: Path

    def is_done(self) -> bool:
        """Return whether its results are there, and complete."""
        return self.folder.exists() and bool(manifest.read(self.folder)["complete"])

    def run(self, progress: Progress = silence) -> None:
        """Run it, in place of an earlier run that was interrupted."""
        if self.folder.exists():
            shutil.rmtree(self.folder)
        run(self.scenario, self.folder, self.repetition, progress)


def tasks_of(scenario: Scenario, folder: Path) -> list[Task]:
    """Return all runs of a scenario; each has a folder of its own within the given one."""
    repetitions = range(scenario.settings.repetitions)
    return [task for point in scenario.points() for task in tasks_at(point, repetitions, folder)]


def tasks_at(point: Scenario, repetitions: Iterable[int], folder: Path) -> list[Task]:
    """Return some repetitions of one point of a sweep."""
    own = folder / point.digest[:12]
    return [Task(point, repetition, own / str(repetition)) for repetition in repetitions]


def sweep(
    tasks: list[Task], jobs: int, backend: str = BACKENDS[0], address: str = ""
) -> Iterator[Task]:
    """Run tasks, so many at a time; yield each when its results are written.

    `address` is that of a running Dask or Ray cluster; without it one is started here.
    InvalidRequest if the back-end is not installed.
    """
    with _cluster(backend, jobs, address) as name, joblib.parallel_config(name, n_jobs=jobs):
        # Ray gives results only when all have come, so it gets a few tasks at a time.
        at_once = jobs * RAY_TASKS if name == "ray" else len(tasks)
        form = "list" if name == "ray" else "generator_unordered"
        for first in range(0, len(tasks), at_once):
            places = range(first, min(first + at_once, len(tasks)))
            calls = (joblib.delayed(_run)(place, tasks[place]) for place in places)
            for place in joblib.Parallel(return_as=form)(calls):
                yield tasks[place]


def _run(place: int, task: Task) -> int:
    task.run()
    return place


@contextmanager
def _cluster(backend: str, jobs: int, address: str) -> Iterator[str]:
    """Start a back-end, or connect to one; yield what joblib calls it, and close it in the end."""
    try:
        close = _STARTS[backend](jobs, address)
    except ImportError:
        raise InvalidRequest(
            f"the back-end {backend} is not installed: pip install {INSTALL[backend]}"
        ) from None
    try:
        yield JOBLIB_NAMES[backend]
    finally:
        close()


def _processes(_jobs: int, _address: str) -> Callable[[], object]:
    return lambda: None  # joblib starts them.


def _dask(jobs: int, address: str) -> Callable[[], object]:
    from distributed import Client  # noqa: PLC0415 - Only who uses it has it.

    client: Any = Client(address) if address else Client(n_workers=jobs, threads_per_worker=1)
    close: Callable[[], object] = client.close
    return close


def _ray(jobs: int, address: str) -> Callable[[], object]:
    import ray  # noqa: PLC0415 - Only who uses it has it.
    from ray.util.joblib import register_ray  # noqa: PLC0415

    ray.init(address=address or None, num_cpus=None if address else jobs, log_to_driver=False)
    register_ray()
    close: Callable[[], object] = ray.shutdown
    return close


_STARTS: Final = {"processes": _processes, "dask": _dask, "ray": _ray}
"""Each starts a back-end, and returns what closes it."""


def load_all(folder: Path) -> list[RunResults]:
    """Return the results of all runs below a folder, in the order of their names."""
    found = sorted(each.parent for each in folder.rglob("manifest.json"))
    if not found:
        raise InvalidRequest(f"{folder}: there are no results")
    return [load(each) for each in found]
