"""The provider's side of one lease.

Spec: specs/lease.md#provider.
"""

from protocol.machines.provider.lease.billing import promised
from protocol.machines.provider.lease.checkpoints import offered
from protocol.machines.provider.lease.machine import hold_award, resume
from protocol.machines.provider.lease.repairing import entry_of
from protocol.machines.provider.lease.states import (
    Active,
    Ended,
    Held,
    Hold,
    Leaving,
    Preparing,
    Serving,
    Settling,
    State,
    Stopping,
    Unstarted,
    Waiting,
    reserved,
)
from protocol.machines.provider.lease.table import IGNORED, ILLEGAL, INPUTS, TRANSITIONS
from protocol.machines.provider.lease.usage import beyond_memory, shortest_left_ms, used_ms

__all__ = [
    "IGNORED", "ILLEGAL", "INPUTS", "TRANSITIONS", "Active", "Ended", "Held", "Hold", "Leaving",
    "Preparing", "Serving", "Settling", "State", "Stopping", "Unstarted", "Waiting",
    "beyond_memory", "entry_of", "hold_award", "offered", "promised", "reserved", "resume",
    "shortest_left_ms", "used_ms",
]  # fmt: skip
