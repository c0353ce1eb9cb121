"""The states of a lease, as its requester sees it.

Spec: specs/lease-machines.md#requester-lease.
"""

from dataclasses import dataclass
from typing import Final

from protocol.machines.effects import Effect
from protocol.values.ids import NO_LEASE, ContentId, JobId, LeaseId, PeerId
from protocol.values.limits import VOUCHER_MS
from protocol.values.reasons import Failure, Release
from protocol.wire.job import Workload
from protocol.wire.messages import Checkpoint, Completed


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
    retry_on_exit: int = 0
    """How many different errors of the job are taken for a fault of its node."""
    exits_seen: tuple[str, ...] = ()
    """How it ended on other nodes (`exit_class`)."""
    resumes_from: int = 0
    """The number of the checkpoint that the workload continues from; 0: it begins anew."""
    after: LeaseId = NO_LEASE
    """The lease that had its slot before, if its job still ran at the award. Older snapshots lack
    it."""
    latest_start_ms: int = 0
    """Until when the job runs if its provider keeps its promise; 0: none. Older snapshots lack it.
    """


@dataclass(frozen=True, slots=True)
class Liveness:
    """What we know of the life of a provider. Older snapshots lack it; a restart resets it."""

    heard_ms: int = 0
    """When its last sign of life came."""
    asked: bool = False
    """Whether it is suspected: it was asked since whether it is there."""


UNHEARD: Final = Liveness()


@dataclass(frozen=True, slots=True)
class KeptCheckpoints:
    """The checkpoints of a running job, as far as its requester has them."""

    sequence: int = 0
    """That of the newest which is here."""
    fetching: Checkpoint | None = None


NOTHING_KEPT: Final = KeptCheckpoints()


@dataclass(frozen=True, slots=True)
class Deploying:
    """The provider fetches image and inputs."""

    lease: Lease
    deadline_ms: int
    until_ms: int
    liveness: Liveness = UNHEARD
    ready: bool = False
    """Whether it has them, and waits for the other members of its gang."""


@dataclass(frozen=True, slots=True)
class Launching:
    """The start message is sent: from now on the job may run."""

    lease: Lease
    deadline_ms: int
    since_ms: int
    liveness: Liveness = UNHEARD
    away_ms: int = 0
    """As in Executing."""


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
    """How long we were away while the container ran: the provider may have paused it."""
    liveness: Liveness = UNHEARD
    checkpoints: KeptCheckpoints = NOTHING_KEPT
    """Older snapshots lack it."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """The container has exited; its outputs are being fetched."""

    lease: Lease
    deadline_ms: int
    since_ms: int
    vouchers: int
    completed: Completed
    seen_ms: int
    """The time that we measured between the start message and the end."""
    paid_ms: int = 0


@dataclass(frozen=True, slots=True)
class Releasing:
    """Our user cancelled the job, or its gang failed; we wait for the provider's bill."""

    lease: Lease
    deadline_ms: int
    since_ms: int
    vouchers: int
    paid_ms: int = 0
    reason: Release = Release.CANCELLED


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
    """The usage that we have paid."""
    exit_class: str = ""
    """How the job ended, if it ended by itself."""


Live = Deploying | Launching | Executing | Fetched | Releasing
MayRun = Launching | Executing
Watched = Deploying | Launching | Executing
State = Deploying | Launching | Executing | Fetched | Releasing | Closed | Broken
Step = tuple[State, tuple[Effect, ...]]
