"""Everything that can happen to a node.

Spec: specs/core.md#inputs. A message from a peer is also an input, of type `Signed`; the tables of
the machines list it by the class of its message.
"""

from dataclasses import dataclass

from protocol.machines.context import Policy
from protocol.rules.start_promise import Preparation
from protocol.values.ids import JobId, LeaseId, PeerId
from protocol.values.reasons import Release
from protocol.wire.envelope import Signed
from protocol.wire.job import BlobRef, JobSpec
from protocol.wire.messages import CapabilityRecord, Message


@dataclass(frozen=True, slots=True)
class DeadlineReached:
    """The core's next deadline has come, or the timer fired early."""


@dataclass(frozen=True, slots=True)
class JobSubmitted:
    """Our user submitted a job. The identifier is 16 random bytes."""

    job_id: JobId
    spec: JobSpec


@dataclass(frozen=True, slots=True)
class ArraySubmitted:
    """Our user submitted the members of an array, or some of them again: all or none."""

    jobs: tuple[JobSubmitted, ...]


@dataclass(frozen=True, slots=True)
class JobCancelled:
    """Our user cancelled the job, or its gang failed."""

    job_id: JobId
    reason: Release = Release.CANCELLED


@dataclass(frozen=True, slots=True)
class MembersHeld:
    """The providers of all members of a gang hold their slots; here they are by rank."""

    lease_id: LeaseId
    providers: tuple[PeerId, ...]


@dataclass(frozen=True, slots=True)
class MembersNear:
    """All round trips between the members of a gang are short enough."""

    lease_id: LeaseId


@dataclass(frozen=True, slots=True)
class MembersFar:
    """A round trip between two members of a gang is too long, or could not be measured."""

    lease_id: LeaseId
    why: str


@dataclass(frozen=True, slots=True)
class RoundTripsMeasured:
    """The round trips to the other providers of a gang are measured, in microseconds.

    NOT_MEASURED stands for a peer that could not be reached in time.
    """

    lease_id: LeaseId
    round_trips_us: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class MembersReady:
    """All members of a gang have image and inputs."""

    lease_id: LeaseId


@dataclass(frozen=True, slots=True)
class Prepared:
    """Image and inputs of a lease are here, verified."""

    lease_id: LeaseId


@dataclass(frozen=True, slots=True)
class PrepareFailed:
    """Image or inputs of a lease are unavailable."""

    lease_id: LeaseId
    why: str


@dataclass(frozen=True, slots=True)
class FetchProgressed:
    """So many bytes of image and inputs have arrived."""

    lease_id: LeaseId
    fetched: int
    total: int


@dataclass(frozen=True, slots=True)
class ContainerStarted:
    """The container of a lease runs, and has used so much."""

    lease_id: LeaseId
    usage_ms: int


@dataclass(frozen=True, slots=True)
class ContainerExtended:
    """The container of a lease has its new budget; if it was paused, it resumes at this usage."""

    lease_id: LeaseId
    usage_ms: int


@dataclass(frozen=True, slots=True)
class SlotFreed:
    """The container of the lease before this one on its slot has exited."""

    lease_id: LeaseId
    since_ms: int = 0
    """When this lease's own job could have started at the earliest, as its requester sees it."""


@dataclass(frozen=True, slots=True)
class PauseDenied:
    """Paused containers hold more memory than our owner allows; this one must end."""

    lease_id: LeaseId


@dataclass(frozen=True, slots=True)
class CheckpointTaken:
    """What a job left as its checkpoint is in our blob store."""

    lease_id: LeaseId
    mark: bytes
    """Tells this state of the checkpoint's path from every other one."""
    listing: BlobRef
    size: int


@dataclass(frozen=True, slots=True)
class ContainerExited:
    """The container of a lease has exited; its log and outputs are in our blob store."""

    lease_id: LeaseId
    exit_code: int
    reason: str
    detail: str
    usage_ms: int
    outputs: BlobRef


@dataclass(frozen=True, slots=True)
class ContainerFailed:
    """The sandbox failed to start the container, or lost it, or its GPU is gone."""

    lease_id: LeaseId
    why: str
    reason: Release = Release.SANDBOX_FAILED


@dataclass(frozen=True, slots=True)
class CheckpointFetched:
    """A checkpoint of a lease is here, verified."""

    lease_id: LeaseId
    sequence: int


@dataclass(frozen=True, slots=True)
class CheckpointLost:
    """A checkpoint of a lease is unavailable."""

    lease_id: LeaseId
    sequence: int


@dataclass(frozen=True, slots=True)
class OutputsFetched:
    """Log and outputs of a lease are here, verified."""

    lease_id: LeaseId


@dataclass(frozen=True, slots=True)
class OutputsLost:
    """Log and outputs of a lease are unavailable."""

    lease_id: LeaseId
    why: str


@dataclass(frozen=True, slots=True)
class RecordReceived:
    """A capability record came by gossip, or was looked up.

    `source` is the address of whoever handed it over. What a peer says over its own stream is an
    input of the class `Signed`.
    """

    signed: Signed[CapabilityRecord]
    source: str


@dataclass(frozen=True, slots=True)
class PeerConnected:
    """The first connection to a peer is established."""

    peer: PeerId
    source: str = ""
    """The address that it is connected from."""


@dataclass(frozen=True, slots=True)
class PeerDisconnected:
    """The last connection to a peer is closed."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class PeerAnswered:
    """A peer acknowledged a probe: it is there."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class NetworkLost:
    """Neither a probed peer nor any other answers: the fault may be ours."""


@dataclass(frozen=True, slots=True)
class StateHeard:
    """The other side of a lease says how it sees it."""

    lease_id: LeaseId
    state: int
    vouchers: int


@dataclass(frozen=True, slots=True)
class Isolated:
    """The next deadline of a lease has come, and this node has no connection to anybody."""

    lease_id: LeaseId


@dataclass(frozen=True, slots=True)
class PolicyChanged:
    """The owner or the machine changed what this node lends."""

    policy: Policy


@dataclass(frozen=True, slots=True)
class DevicesWithheld:
    """These GPUs are in trouble: they are not lent, whatever the policy says. Replaces the last."""

    devices: frozenset[str]


@dataclass(frozen=True, slots=True)
class PreparationMeasured:
    """A preparation that this node has finished shows how long the next ones take."""

    preparation: Preparation


@dataclass(frozen=True, slots=True)
class StopRequested:
    """The node is about to stop."""

    notice_ms: int | None = None
    """How long a job with a checkpoint may still run; None: as the policy says."""


@dataclass(frozen=True, slots=True)
class ReclaimRequested:
    """The owner needs the machine: all leases end, the node stays."""

    notice_ms: int
    """How long a job with a checkpoint may still run."""


Input = (
    Signed[Message] | DeadlineReached | JobSubmitted | ArraySubmitted | JobCancelled
    | Prepared | PrepareFailed
    | FetchProgressed | ContainerStarted | ContainerExited | ContainerFailed
    | ContainerExtended | PauseDenied | CheckpointTaken | CheckpointFetched | CheckpointLost
    | OutputsFetched | OutputsLost | RecordReceived
    | PeerConnected | PeerDisconnected | PeerAnswered | NetworkLost | StateHeard | Isolated
    | MembersHeld | MembersNear | MembersFar | RoundTripsMeasured | MembersReady | SlotFreed
    | PolicyChanged | DevicesWithheld | PreparationMeasured | StopRequested | ReclaimRequested
)  # fmt: skip
