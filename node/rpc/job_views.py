"""Jobs and arrays as the API shows them: plain values that become JSON.

Spec: specs/rpc.md#views.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BidView:
    """One bid: its provider, its ask in credits per hour, and whether it could win."""

    peer: str
    ask_hour: str
    eligible: bool


@dataclass(frozen=True, slots=True)
class ReceiptView:
    """The receipt of an execution that both sides signed."""

    usage_ms: int
    amount: str
    provider_signature: str
    requester_signature: str


@dataclass(frozen=True, slots=True)
class StepsView:
    """How long each step of a job's last attempt took; None where it has not ended.

    A step begins where the previous one ends: the durations add up to the whole attempt.
    """

    announce_ms: int | None = None
    """From the submission, or the previous failure, until the call for bids was published."""
    award_ms: int | None = None
    """Until a provider had won, and held the confirmed contract."""
    start_ms: int | None = None
    """Until the container ran: image and inputs were fetched."""
    run_ms: int | None = None
    """Until we knew that the container had exited."""
    return_ms: int | None = None
    """Until log and outputs were here, verified."""


@dataclass(frozen=True, slots=True)
class FailedAttemptView:
    """A failed or cancelled attempt at a job, and its cost.

    `provider` is None if nobody held a lease; `number` counts from 1.
    """

    number: int
    provider: str | None
    reason: str
    why: str
    usage_ms: int
    cost: str


@dataclass(frozen=True, slots=True)
class CheckpointView:
    """The newest checkpoint of a job that this node has; `number` counts them from 1."""

    number: int
    at_ms: int
    size: int


@dataclass(frozen=True, slots=True)
class QueueView:
    """The place of a job among the jobs that wait for capacity."""

    place: int
    """1 for the next job."""
    jobs: int
    why: str
    """Why it waits; empty if only for its turn."""
    retry_ms: int | None
    """When it calls for bids again; None: at its turn."""
    until_ms: int | None
    """When it gives up; None while it waits for other jobs of its array."""


@dataclass(frozen=True, slots=True)
class JobView:
    """A job of this node's user.

    `phase` is "queued" (it waits for capacity), "announced", "bids", "awarded",
    "fetching", "running", "cancelling", "returning", or one of the last three: "done", "failed",
    "cancelled". A job that ran and exited with a code other than 0 is also done. `reason` is a
    stable code and `why` one clear line. `amount` is the receipt's; `cost` is the cost of all
    attempts, None until something was paid.
    """

    id: str
    name: str
    phase: str
    image: str
    command: tuple[str, ...]
    submitted_ms: int
    image_name: str = ""
    ended_ms: int | None = None
    provider: str | None = None
    cap_hour: str | None = None
    """The most that the last call pays, and in `cap_why`, where that comes from."""
    cap_why: str | None = None
    price_hour: str | None = None
    runner_up_hour: str | None = None
    promised_ms: int | None = None
    late_ms: int | None = None
    usage_ms: int | None = None
    amount: str | None = None
    cost: str | None = None
    exit_code: int | None = None
    reason: str | None = None
    why: str | None = None
    attempts: int = 0
    failed_attempts: tuple[FailedAttemptView, ...] = ()
    bids: tuple[BidView, ...] = ()
    receipt: ReceiptView | None = None
    output_digest: str | None = None
    steps: StepsView = StepsView()
    checkpoint: CheckpointView | None = None
    """None before the first."""
    resumes_from: int | None = None
    """The number of the checkpoint that the last attempt continued from."""
    stops_ms: int | None = None
    """When the provider of the running job stops, if it has said so."""
    queue: QueueView | None = None
    """Its place while it waits for capacity."""


@dataclass(frozen=True, slots=True)
class MemberView:
    """A job of an array."""

    index: int
    id: str
    phase: str
    exit_code: int | None = None
    reason: str | None = None
    why: str | None = None
    paid: int = 0
    """The cost of all attempts that have ended, in nano-credits."""


@dataclass(frozen=True, slots=True)
class FailureView:
    """Why members of an array failed, and which."""

    why: str
    indices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ArrayView:
    """An array of jobs of this node's user.

    `phase` is "queued", "running", or one of the last three: "done" (each member exited with 0),
    "failed", "cancelled". The five counts add up to `size`. A member that exited with another code
    than 0 counts as failed.
    """

    id: str
    name: str
    phase: str
    image: str
    command: tuple[str, ...]
    submitted_ms: int
    ended_ms: int | None
    size: int
    done: int
    failed: int
    cancelled: int
    running: int
    waiting: int
    cost: str | None
    failures: tuple[FailureView, ...]
    """The most frequent first, at most 20."""
    gang: bool = False
    """Whether its members run together, or not at all."""
    queue: QueueView | None = None
    """The place of the first member that waits for capacity."""
    max_running: int = 0
    """How many members may run at once; 0: any number."""


@dataclass(frozen=True, slots=True)
class JobEventView:
    """Something that happened to a job. `seq` counts from 1 within the job."""

    seq: int
    at_ms: int
    kind: str
    """The phase that began, "starting", "retry", "progress" (of the fetch), or "place" (in the
    queue)."""
    detail: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class OutputView:
    """An output file of an execution; `path` is relative to /out."""

    path: str
    size: int
    digest: str
    executable: bool = False
