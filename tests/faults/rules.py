"""The rules of the driver and of the sandbox, for the mutants to break.

Spec: specs/faults.md#mutants.
"""

from collections.abc import Callable
from dataclasses import dataclass

from protocol.machines.effects import Effect
from protocol.values.limits import UNPAID_MS_MAX
from tests.simulated_node import Node


@dataclass
class Rules:
    """How the simulated driver and sandbox behave: as the real ones, unless changed."""

    early: Callable[[Effect], bool] = lambda effect: False
    """Which effects are performed before the commit."""
    dropped: Callable[[Node, Effect], bool] = lambda node, effect: False
    """Which effects of a node are neither committed nor performed."""
    acknowledges_early: bool = False
    keeps_outbox: bool = True
    """Whether the outbox survives a crash."""
    enforces_budgets: bool = True
    launches_once: bool = True
    """Whether a lease has one container, however often it is launched."""
    unpaid_ms_max: int = UNPAID_MS_MAX
    """How much a requester may owe a provider beyond its credit."""
    reaps: bool = True
    """Whether a restart removes containers without a lease."""
