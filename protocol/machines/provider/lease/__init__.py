"""The provider's side of one lease.

Spec: specs/lease.md#provider.
"""

from protocol.machines.provider.lease.machine import (
    IGNORED,
    INPUTS,
    TRANSITIONS,
    hold_award,
    resume,
)
from protocol.machines.provider.lease.states import (
    Active,
    Ended,
    Held,
    Hold,
    Preparing,
    Serving,
    Settling,
    State,
    Stopping,
    Unstarted,
    Waiting,
    reserved,
)

__all__ = [
    "IGNORED", "INPUTS", "TRANSITIONS", "Active", "Ended", "Held", "Hold", "Preparing", "Serving",
    "Settling", "State", "Stopping", "Unstarted", "Waiting", "hold_award", "reserved", "resume",
]  # fmt: skip
