"""The laboratory: networks of many nodes in virtual time, with the code that the node runs.

What needs the packages of the extra is imported when it is first asked for: a network of simulated
nodes needs none of them. Spec: specs/simulation.md.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from node.simulator.results import RunResults, concatenate, load
    from node.simulator.runs import run
    from node.simulator.scenario import Scenario
    from node.simulator.sweeps import sweep, tasks_of
    from node.simulator.world.models import add_model

__all__ = [
    "RunResults", "Scenario", "add_model", "concatenate", "load", "run", "sweep", "tasks_of",
]  # fmt: skip
_MODULES = {
    "RunResults": "results", "concatenate": "results", "load": "results", "run": "runs",
    "Scenario": "scenario", "sweep": "sweeps", "tasks_of": "sweeps", "add_model": "world.models",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Return what the package offers; AttributeError if it does not offer that."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
