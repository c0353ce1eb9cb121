"""The requester's side of one lease.

Spec: specs/lease.md#requester.
"""

from protocol.machines.requester.lease.machine import IGNORED, INPUTS, TRANSITIONS, begin
from protocol.machines.requester.lease.resuming import resume
from protocol.machines.requester.lease.states import (
    Broken,
    Closed,
    Deploying,
    Executing,
    Fetched,
    Launching,
    Lease,
    MayRun,
    Releasing,
    State,
)

__all__ = [
    "IGNORED",
    "INPUTS",
    "TRANSITIONS",
    "Broken",
    "Closed",
    "Deploying",
    "Executing",
    "Fetched",
    "Launching",
    "Lease",
    "MayRun",
    "Releasing",
    "State",
    "begin",
    "resume",
]
