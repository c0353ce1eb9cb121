"""Everything that the core can request from the node.

Spec: specs/core.md#effects. Effects are performed in the order in which they are listed. The
durable ones of one step (Save, Report, Settle, and Send in the outbox) are one transaction: the new
states and the exact bytes to send are written together, or not at all.
"""

from dataclasses import dataclass
from typing import Any

from protocol.machines.answers import AnsweredCall
from protocol.machines.events import JobEvent
from protocol.rules.capacity import Reservation
from protocol.rules.fraud import Finding
from protocol.values.ids import JobId, LeaseId, PeerId
from protocol.wire.job import BlobRef, Workload
from protocol.wire.messages import Checkpoint


@dataclass(frozen=True, slots=True)
class Save:
    """Save the state of a machine; None deletes it."""

    table: str
    key: bytes
    state: Any


@dataclass(frozen=True, slots=True)
class Report:
    """Report an event of a job to the user. Durable."""

    job_id: JobId
    event: JobEvent


@dataclass(frozen=True, slots=True)
class Progress:
    """Report the progress of the provider's fetch to the user. Not durable."""

    job_id: JobId
    fetched: int
    total: int


@dataclass(frozen=True, slots=True)
class Settle:
    """Store a receipt. `countersign` is empty until the requester has signed.

    `voucher` is the envelope of the newest voucher at a provider; a requester stores none.
    """

    lease_id: LeaseId
    provider: PeerId
    requester: PeerId
    usage_ms: int
    amount: int
    proposal: bytes
    countersign: bytes
    voucher: bytes = b""


@dataclass(frozen=True, slots=True)
class Note:
    """Store an answer to a call, together with what is written next. A crash may lose it."""

    answered: AnsweredCall


@dataclass(frozen=True, slots=True)
class Accuse:
    """Keep a fraud proof against a requester."""

    finding: Finding
    proof: bytes


@dataclass(frozen=True, slots=True)
class Send:
    """Send an envelope to one peer, with retries until it acknowledges or the deadline passes.

    A deadline of 0 means one attempt. Only durable messages are retried after a crash.
    """

    peer: PeerId
    envelope: bytes
    until_ms: int
    durable: bool = True

    @property
    def in_outbox(self) -> bool:
        """Whether the outbox stores the message before it is sent."""
        return self.durable and self.until_ms > 0


@dataclass(frozen=True, slots=True)
class ProbePeer:
    """Send an envelope to a silent peer over a new connection until it acknowledges it.

    The node is told of the acknowledgement. Not stored, and not in the queue of `Send`.
    """

    peer: PeerId
    envelope: bytes
    until_ms: int


@dataclass(frozen=True, slots=True)
class MeasureRoundTrips:
    """Measure the round trips to peers; those that are not measured in time have none."""

    lease_id: LeaseId
    peers: tuple[PeerId, ...]
    until_ms: int


@dataclass(frozen=True, slots=True)
class Publish:
    """Gossip an envelope on a topic. It may be lost."""

    topic: str
    envelope: bytes


@dataclass(frozen=True, slots=True)
class Advertise:
    """Store our capability record in the DHT, and its sequence number on disk. It may fail."""

    envelope: bytes
    sequence: int


@dataclass(frozen=True, slots=True)
class Learn:
    """Remember the addresses that a peer claims, to send it messages. They may be wrong."""

    peer: PeerId
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reach:
    """Connect to peers that may answer our call: they may be unable to connect to us."""

    peers: tuple[PeerId, ...]


@dataclass(frozen=True, slots=True)
class Prepare:
    """Fetch image and inputs of a lease from its requester."""

    lease_id: LeaseId
    requester: PeerId
    workload: Workload


@dataclass(frozen=True, slots=True)
class Launch:
    """Start the container of a lease, or take over one that already runs."""

    lease_id: LeaseId
    requester: PeerId
    workload: Workload
    reservation: Reservation
    budget_ms: int
    pause_ms: int
    """How long the container stays paused when it has used its budget."""


@dataclass(frozen=True, slots=True)
class Extend:
    """Let the container run until its usage reaches this budget, even if the daemon dies."""

    lease_id: LeaseId
    budget_ms: int


@dataclass(frozen=True, slots=True)
class TakeCheckpoint:
    """Store what lies at the path of a running job's checkpoint, unless it has this mark."""

    lease_id: LeaseId
    workload: Workload
    mark: bytes


@dataclass(frozen=True, slots=True)
class Terminate:
    """Tell the job of a lease to save what it needs and to end: its container will be removed.

    If it ends by itself, its last checkpoint is taken, too.
    """

    lease_id: LeaseId
    workload: Workload


@dataclass(frozen=True, slots=True)
class Kill:
    """Stop the container of a lease."""

    lease_id: LeaseId


@dataclass(frozen=True, slots=True)
class Drop:
    """Discard everything of a lease's execution: stop preparing, remove the run folder."""

    lease_id: LeaseId


@dataclass(frozen=True, slots=True)
class FollowLog:
    """Copy the log of a running lease from its provider as it grows."""

    job_id: JobId
    lease_id: LeaseId
    provider: PeerId
    workload: Workload
    """It bounds the log."""


@dataclass(frozen=True, slots=True)
class FetchOutputs:
    """Fetch log and outputs of a lease from its provider."""

    job_id: JobId
    lease_id: LeaseId
    provider: PeerId
    workload: Workload
    """It bounds the outputs."""
    outputs: BlobRef


@dataclass(frozen=True, slots=True)
class FetchCheckpoint:
    """Fetch a checkpoint of a running job from its provider, instead of an older one."""

    job_id: JobId
    lease_id: LeaseId
    provider: PeerId
    workload: Workload
    """It bounds the checkpoint."""
    checkpoint: Checkpoint


@dataclass(frozen=True, slots=True)
class KeepCheckpoint:
    """Keep the checkpoint that was fetched last for a job, and no older one.

    The job's next attempt continues from it.
    """

    job_id: JobId
    lease_id: LeaseId
    number: int
    """How many checkpoints the job has had, this one included."""
    checkpoint: Checkpoint


Effect = (
    Save | Report | Progress | Settle | Note | Accuse | Send | ProbePeer | MeasureRoundTrips
    | Publish | Advertise | Learn | Reach | Prepare | Launch | Extend | TakeCheckpoint | Terminate
    | Kill | Drop | FollowLog | FetchCheckpoint | KeepCheckpoint | FetchOutputs
)  # fmt: skip
