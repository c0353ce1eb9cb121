"""Watches a run: checks the invariants after each commit and at the end, and keeps what is wrong.

Spec: specs/faults.md#invariants.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from tests.faults.invariants import AT_END, AT_STEP
from tests.faults.network import FaultyNetwork
from tests.simulated_node import Node

VIOLATIONS_MAX: Final = 8


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken invariant: its name and what was seen."""

    invariant: str
    what: str


class Watch:
    """The violations of one run; a bounded number, each once."""

    def __init__(self, network: FaultyNetwork) -> None:
        self.network = network
        self.violations: list[Violation] = []
        network.on_step = self._check_step

    def check_end(self) -> None:
        """Check the whole history and what is left."""
        for name, check in AT_END.items():
            self.note(name, check(self.network))

    def note(self, name: str, found: Iterable[str]) -> None:
        """Keep what violates an invariant."""
        for what in found:
            violation = Violation(name, what)
            if violation not in self.violations and len(self.violations) < VIOLATIONS_MAX:
                self.violations.append(violation)
                self.network.say(f"VIOLATION {name}: {what}")

    def _check_step(self, node: Node) -> None:
        for name, check in AT_STEP.items():
            self.note(name, check(self.network, node))
