"""The laboratory: networks of many nodes in virtual time, with the code that the node runs.

Spec: specs/simulation.md.
"""

from node.simulator.results import RunResults, concatenate, load
from node.simulator.runs import run
from node.simulator.scenario import Scenario
from node.simulator.sweeps import sweep, tasks_of

__all__ = ["RunResults", "Scenario", "concatenate", "load", "run", "sweep", "tasks_of"]
