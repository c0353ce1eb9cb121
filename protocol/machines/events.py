"""What a user is told about a job, in order. Events are durable.

Spec: specs/core.md#job-events. The fold over its events gives the view of a job.
"""

from dataclasses import dataclass
from typing import Final

from protocol.values.ids import CallId, Digest, LeaseId, PeerId
from protocol.values.reasons import Failure
from protocol.wire.messages import Bid

NO_PROVIDER: Final = PeerId("")
CANCELLED: Final = "cancelled by the user"
"""The reason of a failed job that its user cancelled."""


@dataclass(frozen=True, slots=True)
class Queued:
    """The job waits: no node has capacity for it now."""

    attempt: int
    reason: Failure
    """How the job fails if this does not change in time."""
    why: str
    until_ms: int
    """When the job gives up."""


@dataclass(frozen=True, slots=True)
class Announced:
    """The call for bids is out."""

    call_id: CallId
    attempt: int
    nodes: int
    eligible: int
    rate_max: int = 0
    """The highest rate that this call pays, and in `why`, where it comes from. Older events lack
    both."""
    why: str = ""


@dataclass(frozen=True, slots=True)
class BidSeen:
    """One opened bid."""

    peer: PeerId
    bid: Bid
    eligible: bool


@dataclass(frozen=True, slots=True)
class BidsOpened:
    """All bids are open, or the window has ended."""

    bids: tuple[BidSeen, ...]
    unopened: int
    refusals: tuple[tuple[PeerId, int], ...]


@dataclass(frozen=True, slots=True)
class Awarded:
    """A provider has the award."""

    provider: PeerId
    lease_id: LeaseId
    rate: int
    ask: int
    runner_up: int
    """What the best losing bid is worth, weighed; the call's highest rate if there was none."""
    start_ms: int = 0
    """In how many ms after its deployment the provider promises to run the job; 0: no promise.
    Older events lack it."""


@dataclass(frozen=True, slots=True)
class Fetching:
    """The provider has the contract and fetches image and inputs."""

    provider: PeerId
    resumes_from: int = 0
    """The number of the checkpoint that the attempt continues from; 0: it begins anew."""


@dataclass(frozen=True, slots=True)
class Starting:
    """The provider has image and inputs; the start message is sent."""

    provider: PeerId


@dataclass(frozen=True, slots=True)
class Running:
    """The container runs."""

    provider: PeerId
    late_ms: int = 0
    """How late it started, beyond what its provider promised; 0: in time. Older events lack it."""


@dataclass(frozen=True, slots=True)
class Checkpointed:
    """A checkpoint of the running job is here: another attempt can continue from it."""

    provider: PeerId
    number: int
    """It counts the checkpoints of the job, over all its attempts."""
    size: int
    listing: Digest


@dataclass(frozen=True, slots=True)
class Preempted:
    """The provider's owner takes the machine back; the job was told so: it may save its state."""

    provider: PeerId
    notice_ms: int


@dataclass(frozen=True, slots=True)
class Cancelling:
    """Our user cancelled the job: the provider stops it and sends its bill."""

    provider: PeerId


@dataclass(frozen=True, slots=True)
class Returning:
    """The container has exited; log and outputs are being fetched."""

    exit_code: int
    usage_ms: int


@dataclass(frozen=True, slots=True)
class Done:
    """The job has run to its end, with any exit code, and its log and outputs are here."""

    exit_code: int
    reason: str
    detail: str
    usage_ms: int
    amount: int
    outputs: Digest
    proposal: bytes
    """The receipt in the provider's envelope."""
    countersign: bytes
    """The same receipt in our envelope; empty if we dispute it, with the reason in `dispute`."""
    dispute: str


@dataclass(frozen=True, slots=True)
class Retrying:
    """An attempt failed for a reason that the job did not cause; another auction follows."""

    reason: Failure
    why: str
    provider: PeerId = NO_PROVIDER
    """Whose lease it was; empty if there was no lease."""
    usage_ms: int = 0
    """What of it we have paid for, and how much."""
    amount: int = 0


@dataclass(frozen=True, slots=True)
class Failed:
    """The job ended without a result; its last attempt failed, or our user cancelled it."""

    reason: Failure
    why: str
    provider: PeerId = NO_PROVIDER
    """Whose lease it was; empty if there was no lease."""
    usage_ms: int = 0
    """What of it we have paid for, and how much."""
    amount: int = 0


JobEvent = (
    Queued | Announced | BidsOpened | Awarded | Fetching | Starting | Running
    | Checkpointed | Preempted | Cancelling | Returning | Done | Retrying | Failed
)  # fmt: skip
