"""The API's answers: one frozen record per kind of resource; the JSON has the same fields.

Money is text in credits, because JSON numbers are floats in most languages. Digests, job ids and
signatures are hex. Instants are Unix milliseconds.
Spec: specs/rpc.md#views.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from node.rpc.gpu_views import GpuTroubleView


@dataclass(frozen=True, slots=True)
class PhaseCounts:
    """The number of the user's jobs in each phase."""

    queued: int = 0
    announced: int = 0
    bids: int = 0
    awarded: int = 0
    fetching: int = 0
    running: int = 0
    cancelling: int = 0
    returning: int = 0
    done: int = 0
    failed: int = 0
    cancelled: int = 0


@dataclass(frozen=True, slots=True)
class ResourcesView:
    """An amount of a node's resources: processors, memory, disk, GPUs."""

    cpus: int
    memory_mib: int
    disk_mib: int
    gpus: int


@dataclass(frozen=True, slots=True)
class GpuView:
    """GPUs of one model."""

    gpu_class: str
    name: str
    count: int
    vram_mib: int


@dataclass(frozen=True, slots=True)
class ProviderView:
    """How this node provides: with which sandbox driver, and why."""

    enabled: bool
    paused: bool
    """Whether it takes no new jobs at the moment: `closed` says why."""
    driver: str | None
    why: str
    """One line: why this driver, or why none."""
    total: ResourcesView
    free: ResourcesView
    gpus: tuple[GpuView, ...]
    bids_undelivered: int
    """Bids since the start whose requesters were unreachable."""
    proofs: int = 0
    """Fraud proofs in the folder of this node: specs/fraud.md#files."""
    gpu_troubles: tuple[GpuTroubleView, ...] = ()
    closed: str = ""


@dataclass(frozen=True, slots=True)
class TrafficView:
    """What the node has exchanged with its peers since its start: specs/network.md#traffic."""

    messages_sent: int
    messages_received: int
    gossip_sent: int
    gossip_received: int
    bytes_sent: int
    bytes_received: int


@dataclass(frozen=True, slots=True)
class StatusView:
    """The node's identity and state."""

    peer_id: str
    version: str
    addresses: tuple[str, ...]
    peers: int
    uptime_ms: int
    jobs: PhaseCounts
    earned: str
    spent: str
    provider: ProviderView
    data_dir: str
    illegal: dict[str, int]
    """Illegal inputs since the start, by the names of machine, state and input."""
    traffic: TrafficView


@dataclass(frozen=True, slots=True)
class PeerView:
    """A connected peer; `direction` is "inbound" or "outbound"."""

    peer: str
    address: str
    direction: str
    connected_ms: int
    """The duration of the connection."""


@dataclass(frozen=True, slots=True)
class OfferView:
    """A capability record that this node knows. List prices are in credits per hour."""

    peer: str
    own: bool
    cpus: int
    memory_mib: int
    disk_mib: int
    gpus: tuple[GpuView, ...]
    drivers: tuple[str, ...]
    soft_limits: tuple[str, ...]
    """Job limits that the provider's kernel does not enforce: `memory`, `pids`, `cpu`."""
    region: str
    price_cpu_hour: str
    price_memory_gib_hour: str
    price_gpu_hour: str
    free: ResourcesView | None
    """This node's free resources; unknown for other nodes."""
    sequence: int
    expires_in_ms: int
    images: tuple[str, ...]
    """The first 16 digits of the digests of images that the provider already has."""
    price_hour: str = "0.0000"
    """The list price of one GPU; of one CPU if the node has no GPU."""
    isolation: str = "container"
    agent: str = ""
    settled: bool = False
    """Whether this node and that one have signed a receipt."""
    connected: bool = False


@dataclass(frozen=True, slots=True)
class BidView:
    """One bid: its provider, its ask in credits per hour, and whether it could win."""

    peer: str
    ask_hour: str
    eligible: bool


@dataclass(frozen=True, slots=True)
class AnsweredCallView:
    """A call that this node answered as a provider: specs/bids.md. Prices are for one slot."""

    call: str
    at_ms: int
    requester: str
    resources: ResourcesView
    ask_hour: str | None
    result: str
    why: str
    price_hour: str | None
    awards: int
    slots: int
    """The slots that this node offered; 0 for a refusal."""
    refusal: str | None
    """A stable code; None if this node bid."""
    proof: str | None = None
    """The file that proves a fraud of the requester: specs/fraud.md#files."""


@dataclass(frozen=True, slots=True)
class PaidPriceView:
    """What was paid lately for slots of a class in a region, in credits per hour.

    Prices are for one GPU, or for one CPU of a slot without a GPU. `region` is "" if unknown.
    """

    slot_class: str
    """`cpu`, or the class of the GPU."""
    region: str
    count: int
    lowest_hour: str
    median_hour: str
    highest_hour: str
    latest_ms: int


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


@dataclass(frozen=True, slots=True)
class BlobView:
    """Bytes that this node stores."""

    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class ImageView:
    """An image that this node stores, and the names that its user gave it."""

    digest: str
    names: tuple[str, ...]
    size: int
    created_ms: int | None = None
