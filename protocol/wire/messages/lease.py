"""The messages of a lease, from the award to the receipt.

Spec: specs/lease.md#messages. The contract of a lease is {Award, AwardAccept, LeaseConfirm}; the
content id of the LeaseConfirm identifies it.
"""

from dataclasses import dataclass
from typing import Annotated, Final

from protocol.values.ids import NO_LEASE, CallId, ContentId, LeaseId, PeerId
from protocol.values.limits import (
    LEASES_LISTED_MAX,
    NOTICE_MS_MAX,
    OUTCOME_MAX,
    SETTERS_MAX,
    SLOTS_MAX,
)
from protocol.wire.job import BLOB_SIZE_MAX, TIMEOUT_MS_MAX, BlobRef, Workload
from protocol.wire.schema import (
    DIGEST,
    MILLIS,
    MONEY,
    PEER,
    RATE,
    Bytes,
    Flag,
    Int,
    Key,
    Many,
    Record,
    Text,
)

PREPARING, RUNNING = 1, 3
"""The states that a heartbeat reports. The number between is not used."""
GONE = 0
"""The state of a lease that a side does not have."""
NOT_MEASURED: Final = 0
"""The round trip to a peer that could not be reached in time."""
DEPLOYING, LAUNCHING, FETCHED = 1, 2, 4
"""Some of the states in which a requester has a lease."""
ACTIVE, WAITING, SERVING = 2, 4, 5
"""Some of the states in which a provider has a lease."""


@dataclass(frozen=True, slots=True)
class Award:
    """The requester gives one slot of a bidder a job, and shows what set its price."""

    call_id: Annotated[CallId, Key(1), DIGEST]
    outcome: Annotated[bytes, Key(2), Bytes(1, OUTCOME_MAX)]
    """The envelope of the auction's Outcome."""
    slot: Annotated[int, Key(3), Int(0, 65_535)]
    """The number of earlier awards of this auction: it makes the lease's id unique."""
    attempt: Annotated[int, Key(4), Int(0, 65_535)]
    offer: Annotated[int, Key(5), Int(0, 65_535)]
    """The number of slots that were awarded before and not taken."""
    rate: Annotated[int, Key(6), RATE]
    shift: Annotated[int, Key(7), Int(0, 4)]
    evidence: Annotated[tuple[bytes, ...], Key(8), Many(Bytes(1, 512), SETTERS_MAX)]
    """The envelopes of the reveals that set the price; empty if the call's highest rate did."""
    bid: Annotated[ContentId, Key(10), DIGEST]
    """The content id of the reveal that is awarded."""
    unit: Annotated[int, Key(9), Int(0, SLOTS_MAX - 1)] = 0
    """Which of the winner's slots this is."""
    after: Annotated[LeaseId, Key(11), Bytes(0, 32)] = NO_LEASE
    """The lease that uses the slot now: the award takes over its capacity. Empty: none does."""


@dataclass(frozen=True, slots=True)
class AwardAccept:
    """The provider holds its capacity for the lease."""

    lease_id: Annotated[LeaseId, Key(1), DIGEST]
    award: Annotated[ContentId, Key(2), DIGEST]


@dataclass(frozen=True, slots=True)
class AwardDecline:
    """The provider declines the award."""

    lease_id: Annotated[LeaseId, Key(1), DIGEST]
    award: Annotated[ContentId, Key(2), DIGEST]
    reason: Annotated[int, Key(3), Int(1, 255)]


@dataclass(frozen=True, slots=True)
class LeaseConfirm:
    """The requester confirms the contract."""

    lease_id: Annotated[LeaseId, Key(1), DIGEST]
    accept: Annotated[ContentId, Key(2), DIGEST]
    amount_max: Annotated[int, Key(3), MONEY]


@dataclass(frozen=True, slots=True)
class LeaseActive:
    """The provider has the contract."""

    lease_id: Annotated[LeaseId, Key(1), DIGEST]
    contract: Annotated[ContentId, Key(2), DIGEST]


@dataclass(frozen=True, slots=True)
class LeaseRelease:
    """One side ends the lease. After this nothing of it may start or continue."""

    lease_id: Annotated[LeaseId, Key(1), DIGEST]
    reason: Annotated[int, Key(2), Int(1, 255)]
    detail: Annotated[str, Key(3), Text(512)] = ""


@dataclass(frozen=True, slots=True)
class Released:
    """The provider's final message of a lease that its requester released."""

    lease_id: Annotated[LeaseId, Key(1), DIGEST]
    usage_ms: Annotated[int, Key(2), MILLIS]
    receipt: Annotated[bytes, Key(3), Bytes(0, 1_024)]
    """The envelope of the provider's Receipt; empty if nothing ran."""


@dataclass(frozen=True, slots=True)
class RoundTripQuery:
    """The requester names the providers of the other members of a gang, all of which hold slots."""

    lease_id: Annotated[LeaseId, Key(1), DIGEST]
    others: Annotated[tuple[PeerId, ...], Key(2), Many(PEER, SLOTS_MAX - 1, 1)]


@dataclass(frozen=True, slots=True)
class RoundTrips:
    """The provider has measured the round trips to them."""

    lease_id: Annotated[LeaseId, Key(1), DIGEST]
    round_trips_us: Annotated[
        tuple[int, ...], Key(2), Many(Int(NOT_MEASURED, 2**32), SLOTS_MAX - 1, 1)
    ]
    """One for each peer of the query, in its order, in microseconds; 0 if it could not be reached.
    """


@dataclass(frozen=True, slots=True)
class Deploy:
    """The requester says what to run."""

    lease_id: Annotated[LeaseId, Key(1), DIGEST]
    workload: Annotated[Workload, Key(2), Record(Workload)]


@dataclass(frozen=True, slots=True)
class Ready:
    """The provider has image and inputs; nothing has started, nothing is billed."""

    lease_id: Annotated[LeaseId, Key(1), DIGEST]


@dataclass(frozen=True, slots=True)
class Start:
    """The requester starts the one execution of this attempt."""

    lease_id: Annotated[LeaseId, Key(1), DIGEST]
    attempt: Annotated[int, Key(2), Int(0, 65_535)]


@dataclass(frozen=True, slots=True)
class Started:
    """The container runs: usage counts from now on."""

    lease_id: Annotated[LeaseId, Key(1), DIGEST]


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The provider is alive and reports its progress."""

    lease_id: Annotated[LeaseId, Key(1), DIGEST]
    sequence: Annotated[int, Key(2), Int(0, 2**32)]
    state: Annotated[int, Key(3), Int(PREPARING, RUNNING)]
    usage_ms: Annotated[int, Key(4), MILLIS]
    fetched: Annotated[int, Key(5), Int()] = 0
    fetch_total: Annotated[int, Key(6), Int()] = 0


@dataclass(frozen=True, slots=True)
class Voucher:
    """The requester promises an amount for the whole lease so far. The highest counts."""

    lease_id: Annotated[LeaseId, Key(1), DIGEST]
    contract: Annotated[ContentId, Key(2), DIGEST]
    sequence: Annotated[int, Key(3), Int(1, 2**32)]
    usage_ms: Annotated[int, Key(4), MILLIS]
    amount: Annotated[int, Key(5), MONEY]


@dataclass(frozen=True, slots=True)
class PreemptNotice:
    """The provider will end the lease: the job is told to save what it needs to continue."""

    lease_id: Annotated[LeaseId, Key(1), DIGEST]
    notice_ms: Annotated[int, Key(2), Int(0, NOTICE_MS_MAX)]
    """How long the job may still run."""
    reason: Annotated[int, Key(3), Int(1, 255)]
    """That of the release which will follow."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The provider has taken a checkpoint of the running job, and the requester may fetch it."""

    lease_id: Annotated[LeaseId, Key(1), DIGEST]
    sequence: Annotated[int, Key(2), Int(1, 2**32)]
    listing: Annotated[BlobRef, Key(3), Record(BlobRef)]
    """The blob that lists its files, an `Outputs`."""
    size: Annotated[int, Key(4), Int(0, BLOB_SIZE_MAX)]
    """The sum of the sizes of its files."""


@dataclass(frozen=True, slots=True)
class CheckpointAck:
    """The requester has stored a checkpoint, or cannot fetch it."""

    lease_id: Annotated[LeaseId, Key(1), DIGEST]
    sequence: Annotated[int, Key(2), Int(1, 2**32)]
    kept: Annotated[bool, Key(3), Flag()]


@dataclass(frozen=True, slots=True)
class Receipt:
    """The usage and cost of an execution. Provider and requester sign the same body."""

    lease_id: Annotated[LeaseId, Key(1), DIGEST]
    contract: Annotated[ContentId, Key(2), DIGEST]
    payer: Annotated[PeerId, Key(3), PEER]
    payee: Annotated[PeerId, Key(4), PEER]
    rate: Annotated[int, Key(5), RATE]
    usage_ms: Annotated[int, Key(6), MILLIS]
    amount: Annotated[int, Key(7), MONEY]
    exit_code: Annotated[int, Key(8), Int(-1, 255)]
    """-1 if the container did not exit by itself."""
    outputs: Annotated[bytes, Key(9), Bytes(0, 32)]
    """The digest of the Outputs; empty if there are none."""


@dataclass(frozen=True, slots=True)
class Completed:
    """The container has exited, its outputs can be fetched, and this is the bill."""

    lease_id: Annotated[LeaseId, Key(1), DIGEST]
    exit_code: Annotated[int, Key(2), Int(0, 255)]
    reason: Annotated[str, Key(3), Text(32, 1)]
    """`exited`, `timeout`, `memory`, or another reason of the sandbox."""
    detail: Annotated[str, Key(4), Text(512)]
    usage_ms: Annotated[int, Key(5), Int(0, TIMEOUT_MS_MAX * 2)]
    outputs: Annotated[BlobRef, Key(6), Record(BlobRef)]
    receipt: Annotated[bytes, Key(7), Bytes(1, 1_024)]
    """The envelope of the provider's Receipt."""


@dataclass(frozen=True, slots=True)
class LeaseEntry:
    """How one side sees one lease."""

    lease_id: Annotated[LeaseId, Key(1), DIGEST]
    state: Annotated[int, Key(2), Int(GONE, 15)]
    vouchers: Annotated[int, Key(3), Int(0, 2**32)] = 0
    """The sequence of the newest voucher."""


@dataclass(frozen=True, slots=True)
class LeaseQuery:
    """The requester lists leases with the provider, and asks how the provider sees them."""

    leases: Annotated[
        tuple[LeaseEntry, ...], Key(1), Many(Record(LeaseEntry), LEASES_LISTED_MAX, 1)
    ]


@dataclass(frozen=True, slots=True)
class LeaseStates:
    """The provider says how it sees the leases that it was asked about."""

    leases: Annotated[
        tuple[LeaseEntry, ...], Key(1), Many(Record(LeaseEntry), LEASES_LISTED_MAX, 1)
    ]
