"""How strongly a sandbox separates a job from the machine and from other jobs.

Spec: specs/discovery.md#isolation.
"""

from enum import IntEnum
from typing import Final


class Isolation(IntEnum):
    """The tiers of isolation; a higher number is stronger."""

    CONTAINER = 1
    GVISOR = 2
    MICROVM = 3
    VM = 4
    CONFIDENTIAL = 5


def isolation_name(tier: int) -> str:
    """Return the name of a tier; of a tier that this version does not know, its number."""
    known = {known.value: known.name.lower() for known in Isolation}
    return known.get(tier, str(tier))


TIERS: Final = tuple(isolation_name(tier) for tier in Isolation)
"""The names of all tiers, the weakest first."""
