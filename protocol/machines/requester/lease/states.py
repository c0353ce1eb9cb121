"""The states of a lease, as its requester sees it.

Spec: specs/machines.md#requester-lease.
"""

from dataclasses import dataclass

from protocol.machines.effects import Effect
from protocol.values.ids import ContentId, JobId, LeaseId, PeerId
from protocol.values.limits import VOUCHER_MS
from protocol.values.reasons import Failure
from protocol.wire.job import Workload
from protocol.wire.messages import Completed


@dataclass(frozen=True, slots=True)
class Lease:
    """What stays the same from the contract to the receipt."""

    job_id: JobId
    lease_id: LeaseId
    provider: PeerId
    contract: ContentId
    rate: int
    attempt: int
    workload: Workload
    voucher_ms: int = VOUCHER_MS


@dataclass(frozen=True, slots=True)
class Deploying:
    """The provider fetches image and inputs."""

    lease: Lease
    deadline_ms: int
    until_ms: int


@dataclass(frozen=True, slots=True)
class Launching:
    """The start message is out: from here on the job may run."""

    lease: Lease
    deadline_ms: int
    since_ms: int


@dataclass(frozen=True, slots=True)
class Executing:
    """The container runs."""

    lease: Lease
    deadline_ms: int
    since_ms: int
    paid_ms: int
    """The usage that our last voucher covers."""
    vouchers: int
    away_ms: int = 0
    """How long we have been away while it ran: the provider may have paused it."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """The container has exited and its outputs are on their way to us."""

    lease: Lease
    deadline_ms: int
    since_ms: int
    vouchers: int
    completed: Completed
    seen_ms: int
    """The time that we saw pass between the start message and the end."""
    paid_ms: int = 0


@dataclass(frozen=True, slots=True)
class Releasing:
    """Our user does not want the job any more; we wait for the provider's last word."""

    lease: Lease
    deadline_ms: int
    since_ms: int
    vouchers: int
    paid_ms: int = 0


@dataclass(frozen=True, slots=True)
class Closed:
    """The job is done and paid."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class Broken:
    """The lease ended without a result."""

    lease: Lease
    reason: Failure
    why: str
    usage_ms: int = 0
    """What we have paid for."""


Live = Deploying | Launching | Executing | Fetched | Releasing
MayRun = Launching | Executing
State = Deploying | Launching | Executing | Fetched | Releasing | Closed | Broken
Step = tuple[State, tuple[Effect, ...]]
