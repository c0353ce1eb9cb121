"""The units in which models are described: each is a number with one unit.

Spec: specs/simulation.md#scenario.
"""

from dataclasses import dataclass
from typing import NewType

Duration = NewType("Duration", int)
"""In milliseconds; written as 90s, 10m or 1h."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a parameter of a model means, and its bounds."""

    text: str
    least: float = 0
    most: float | None = None
