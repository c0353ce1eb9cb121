"""Every message on the wire in one table: its number, how it travels, how large it may be.

Spec: specs/messages.md. A number never changes its meaning: that of a withdrawn message is listed
in RETIRED. Messages contain durations, not instants, except those that limit replay.
"""

from enum import Enum, auto
from typing import Final, NamedTuple

from protocol.values.limits import (
    ENVELOPE_BYTES_MAX,
    GOSSIP_BYTES_MAX,
    OUTCOME_MAX,
    SET_MAX,
)
from protocol.wire.messages.auction import (
    LOTTERY_ALL,
    NO_ID,
    NO_LOSER,
    Bid,
    BidCommit,
    BidRefusal,
    BidReveal,
    Call,
    Cancel,
    CapacityFree,
    CommitSet,
    Outcome,
    SetCheck,
    Winner,
)
from protocol.wire.messages.lease import (
    ACTIVE,
    DEPLOYING,
    FETCHED,
    GONE,
    LAUNCHING,
    NOT_MEASURED,
    PREPARING,
    RUNNING,
    SERVING,
    WAITING,
    Award,
    AwardAccept,
    AwardDecline,
    Checkpoint,
    CheckpointAck,
    Completed,
    Deploy,
    Heartbeat,
    LeaseActive,
    LeaseConfirm,
    LeaseEntry,
    LeaseQuery,
    LeaseRelease,
    LeaseStates,
    PreemptNotice,
    Ready,
    Receipt,
    Released,
    RoundTripQuery,
    RoundTrips,
    Start,
    Started,
    Voucher,
)
from protocol.wire.messages.record import CapabilityRecord, GpuGroup, Listing, Prices

Message = (
    CapabilityRecord | Call | BidCommit | CommitSet | SetCheck | BidReveal | Outcome | Cancel
    | BidRefusal | CapacityFree | Award | AwardAccept | AwardDecline | LeaseConfirm | LeaseActive
    | LeaseRelease | Released | Deploy | Ready | Start | Started | Heartbeat | Voucher
    | PreemptNotice | Checkpoint | CheckpointAck | Completed | Receipt | LeaseQuery | LeaseStates
    | RoundTripQuery | RoundTrips
)  # fmt: skip


class Carrier(Enum):
    """How a message travels."""

    GOSSIP = auto()
    STREAM = auto()
    BOTH = auto()


class Role(Enum):
    """In which role a node receives a message."""

    NODE = auto()
    """In any role: it does not belong to an auction or a lease."""
    REQUESTER = auto()
    PROVIDER = auto()
    EITHER = auto()
    """As the side of the lease that it has."""


class Route(NamedTuple):
    """One row of the wire table."""

    number: int
    message: type[Message]
    role: Role
    carrier: Carrier
    bytes_max: int
    spec: str


NODE, REQUESTER, PROVIDER, EITHER = Role
GOSSIP, STREAM, BOTH = Carrier
WIRE: Final = (
    Route(0x01, CapabilityRecord, NODE, BOTH, GOSSIP_BYTES_MAX, "discovery.md#capability-record"),
    Route(0x10, Call,             PROVIDER,  GOSSIP, GOSSIP_BYTES_MAX, "auction-messages.md#call"),
    Route(0x12, BidCommit,        REQUESTER, STREAM, 256, "auction-messages.md#bid-commit"),
    Route(0x13, CommitSet,        PROVIDER,  STREAM, SET_MAX, "auction-messages.md#commit-set"),
    Route(0x14, SetCheck,         PROVIDER,  STREAM, 4_352, "auction-messages.md#set-check"),
    Route(0x15, BidReveal,        REQUESTER, STREAM, 512, "auction-messages.md#bid-reveal"),
    Route(0x17, Outcome,          PROVIDER,  STREAM, OUTCOME_MAX, "auction-messages.md#outcome"),
    Route(0x18, Cancel,           PROVIDER,  STREAM, 256, "auction-messages.md#cancel"),
    Route(0x1B, BidRefusal,       REQUESTER, STREAM, 256, "auction-messages.md#bid-refusal"),
    Route(0x1C, CapacityFree,     REQUESTER, STREAM, 256, "auction-messages.md#capacity-free"),
    Route(0x20, Award,            PROVIDER,  STREAM, 12_000, "lease.md#award"),
    Route(0x21, AwardAccept,      REQUESTER, STREAM, 256, "lease.md#award-accept"),
    Route(0x22, AwardDecline,     REQUESTER, STREAM, 256, "lease.md#award-decline"),
    Route(0x23, LeaseConfirm,     PROVIDER,  STREAM, 256, "lease.md#lease-confirm"),
    Route(0x24, LeaseActive,      REQUESTER, STREAM, 256, "lease.md#lease-active"),
    Route(0x25, LeaseRelease,     EITHER,    STREAM, 1_024, "lease.md#lease-release"),
    Route(0x26, Released,         REQUESTER, STREAM, 2_048, "lease.md#released"),
    Route(0x27, LeaseQuery,       PROVIDER,  STREAM, 4_096, "survival.md#lease-query"),
    Route(0x28, LeaseStates,      REQUESTER, STREAM, 4_096, "survival.md#lease-states"),
    Route(0x29, RoundTripQuery,   PROVIDER,  STREAM, 5_120, "gangs.md#round-trip-query"),
    Route(0x2A, RoundTrips,       REQUESTER, STREAM, 1_024, "gangs.md#measured-round-trips"),
    Route(0x30, Deploy,           PROVIDER,  STREAM, ENVELOPE_BYTES_MAX, "lease.md#deploy"),
    Route(0x31, Ready,            REQUESTER, STREAM, 256, "lease.md#ready"),
    Route(0x32, Start,            PROVIDER,  STREAM, 256, "lease.md#start"),
    Route(0x33, Started,          REQUESTER, STREAM, 256, "lease.md#started"),
    Route(0x34, Heartbeat,        REQUESTER, STREAM, 256, "lease.md#heartbeat"),
    Route(0x35, Voucher,          PROVIDER,  STREAM, 512, "lease.md#voucher"),
    Route(0x36, PreemptNotice,    REQUESTER, STREAM, 256, "checkpoints.md#preempt-notice"),
    Route(0x37, Checkpoint,       REQUESTER, STREAM, 512, "checkpoints.md#checkpoint"),
    Route(0x38, CheckpointAck,    PROVIDER,  STREAM, 256, "checkpoints.md#acknowledgement"),
    Route(0x3A, Completed,        REQUESTER, STREAM, 2_560, "lease.md#completed"),
    Route(0x3B, Receipt,          PROVIDER,  STREAM, 1_024, "lease.md#receipt"),
)  # fmt: skip
RETIRED: Final[frozenset[int]] = frozenset()
BY_NUMBER: Final = {route.number: route for route in WIRE}
NUMBER_OF: Final[dict[type, int]] = {route.message: route.number for route in WIRE}
ROLE_OF: Final[dict[type, Role]] = {route.message: route.role for route in WIRE}

__all__ = [
    "ACTIVE", "BY_NUMBER", "DEPLOYING", "FETCHED", "GONE", "LAUNCHING", "LOTTERY_ALL",
    "NOT_MEASURED", "NO_ID", "NO_LOSER", "NUMBER_OF", "PREPARING", "RETIRED", "ROLE_OF",
    "RUNNING", "SERVING", "WAITING", "WIRE", "Award", "AwardAccept", "AwardDecline", "Bid",
    "BidCommit", "BidRefusal", "BidReveal", "Call", "Cancel", "CapabilityRecord",
    "CapacityFree", "Carrier", "Checkpoint", "CheckpointAck", "CommitSet", "Completed",
    "Deploy", "GpuGroup", "Heartbeat", "LeaseActive", "LeaseConfirm", "LeaseEntry",
    "LeaseQuery", "LeaseRelease", "LeaseStates", "Listing", "Message", "Outcome",
    "PreemptNotice", "Prices", "Ready", "Receipt", "Released", "Role", "RoundTripQuery",
    "RoundTrips", "Route", "SetCheck", "Start", "Started", "Voucher", "Winner",
]  # fmt: skip
