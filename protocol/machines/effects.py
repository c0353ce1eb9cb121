"""Everything that a node can ask of the world.

Spec: specs/core.md#effects. Effects are performed in the order in which they are listed. The
durable ones of one step (Save, Report, Settle, and Send in the outbox) are one transaction: the
state changes and the exact bytes that it causes to be sent are written together, or not at all.
"""

from dataclasses import dataclass
from typing import Any

from protocol.machines.events import JobEvent
from protocol.rules.capacity import Reservation
from protocol.values.ids import JobId, LeaseId, PeerId
from protocol.wire.job import BlobRef, Workload


@dataclass(frozen=True, slots=True)
class Save:
    """Write the state of a machine down; None forgets it."""

    table: str
    key: bytes
    state: Any


@dataclass(frozen=True, slots=True)
class Report:
    """Tell the user what became of the job. Durable."""

    job_id: JobId
    event: JobEvent


@dataclass(frozen=True, slots=True)
class Progress:
    """Tell the user how far the provider's fetching is. Not durable."""

    job_id: JobId
    fetched: int
    total: int


@dataclass(frozen=True, slots=True)
class Settle:
    """Keep a receipt. `countersign` is empty as long as the requester has not signed.

    `voucher` is the envelope of the newest voucher that a provider has; a requester keeps none.
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
class Send:
    """Send an envelope to one peer, again and again until it has it or the deadline is over.

    A deadline of 0 means once. Only what is durable goes on after a crash of ours.
    """

    peer: PeerId
    envelope: bytes
    until_ms: int
    durable: bool = True

    @property
    def in_outbox(self) -> bool:
        """Whether it is written down before it is said."""
        return self.durable and self.until_ms > 0


@dataclass(frozen=True, slots=True)
class Publish:
    """Gossip an envelope on a topic. It may be lost."""

    topic: str
    envelope: bytes


@dataclass(frozen=True, slots=True)
class Advertise:
    """Put our capability record into the DHT. It may fail. The sequence number is to be kept."""

    envelope: bytes
    sequence: int


@dataclass(frozen=True, slots=True)
class Learn:
    """Remember where a peer listens, by its own word. Its messages may need it; it may be wrong."""

    peer: PeerId
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reach:
    """Connect with peers that are to answer: they may not be able to connect with us."""

    peers: tuple[PeerId, ...]


@dataclass(frozen=True, slots=True)
class Prepare:
    """Fetch image and inputs of a lease from its requester."""

    lease_id: LeaseId
    requester: PeerId
    workload: Workload


@dataclass(frozen=True, slots=True)
class Launch:
    """Start the container of a lease, or take it over if it runs already."""

    lease_id: LeaseId
    requester: PeerId
    workload: Workload
    reservation: Reservation
    budget_ms: int
    pause_ms: int
    """How long the container waits for more, paused, when it has used its budget."""


@dataclass(frozen=True, slots=True)
class Extend:
    """Let the container run until it has used this much, even if the daemon dies."""

    lease_id: LeaseId
    budget_ms: int


@dataclass(frozen=True, slots=True)
class Kill:
    """Stop the container of a lease."""

    lease_id: LeaseId


@dataclass(frozen=True, slots=True)
class Drop:
    """Forget everything about a lease's execution: stop preparing, remove the run folder."""

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


Effect = (
    Save | Report | Progress | Settle | Send | Publish | Advertise | Learn | Reach | Prepare
    | Launch | Extend | Kill | Drop | FollowLog | FetchOutputs
)  # fmt: skip
