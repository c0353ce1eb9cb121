"""The laboratory: networks of many nodes in virtual time, with the code that the node runs.

Spec: specs/simulation.md.
"""

from node.simulator.results import RunResults, concatenate, load
from node.simulator.runs import run
from node.simulator.scenario import Scenario
from node.simulator.sweeps import sweep, tasks_of
from node.simulator.world.models import add_model

__all__ = [
    "RunResults",
    "Scenario",
    "add_model",
    "concatenate",
    "load",
    "run",
    "sweep",
    "tasks_of",
]
