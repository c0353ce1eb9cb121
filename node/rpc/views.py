"""The API's answers: one frozen record per kind of resource; the JSON has the same fields.

Money is text in credits, because JSON numbers are floats in most languages. Digests, job ids and
signatures are hex. Instants are Unix milliseconds.
Spec: specs/rpc.md#views.
"""

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
    egress: str = "none"
    settled: bool = False
    """Whether this node and that one have signed a receipt."""
    connected: bool = False


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
class BlobView:
    """Bytes that this node stores."""

    digest: str
    size: int
