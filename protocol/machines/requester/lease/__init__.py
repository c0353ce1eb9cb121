"""The requester's side of one lease.

Spec: specs/lease.md#requester.
"""

from protocol.machines.requester.lease.machine import begin, late_ms
from protocol.machines.requester.lease.repairing import entry_of
from protocol.machines.requester.lease.resuming import resume
from protocol.machines.requester.lease.states import (
    Broken,
    Closed,
    Deploying,
    Executing,
    Fetched,
    Launching,
    Lease,
    Live,
    MayRun,
    Releasing,
    State,
    Watched,
)
from protocol.machines.requester.lease.table import IGNORED, ILLEGAL, INPUTS, TRANSITIONS

__all__ = [
    "IGNORED",
    "ILLEGAL",
    "INPUTS",
    "TRANSITIONS",
    "Broken",
    "Closed",
    "Deploying",
    "Executing",
    "Fetched",
    "Launching",
    "Lease",
    "Live",
    "MayRun",
    "Releasing",
    "State",
    "Watched",
    "begin",
    "entry_of",
    "late_ms",
    "resume",
]
