"""Every message on the wire in one table: its number, how it travels, how large it may be.

Spec: specs/messages.md. A number is for ever: a message that is withdrawn leaves its number behind
in RETIRED. Durations travel, instants do not, except the ones that limit replay.
"""

from enum import Enum, auto
from typing import Final, NamedTuple

from protocol.values.limits import ENVELOPE_BYTES_MAX, GOSSIP_BYTES_MAX
from protocol.wire.messages.auction import (
    NO_ID,
    Bid,
    BidCommit,
    BidRefusal,
    BidReveal,
    Call,
    Cancel,
    CommitSet,
    Outcome,
)
from protocol.wire.messages.lease import (
    PREPARING,
    RUNNING,
    Award,
    AwardAccept,
    AwardDecline,
    Completed,
    Deploy,
    Heartbeat,
    LeaseActive,
    LeaseConfirm,
    LeaseRelease,
    Ready,
    Receipt,
    Released,
    Start,
    Started,
    Voucher,
)
from protocol.wire.messages.record import CapabilityRecord, GpuGroup, Listing, Prices

Message = (
    CapabilityRecord | Call | BidCommit | CommitSet | BidReveal | Outcome | Cancel | BidRefusal
    | Award | AwardAccept | AwardDecline | LeaseConfirm | LeaseActive | LeaseRelease | Released
    | Deploy | Ready | Start | Started | Heartbeat | Voucher | Completed | Receipt
)  # fmt: skip


class Carrier(Enum):
    """How a message travels."""

    GOSSIP = auto()
    STREAM = auto()
    BOTH = auto()


class Route(NamedTuple):
    """One row of the wire table."""

    number: int
    message: type[Message]
    carrier: Carrier
    bytes_max: int
    spec: str


WIRE: Final = (
    Route(0x01, CapabilityRecord, Carrier.BOTH, GOSSIP_BYTES_MAX, "discovery.md#capability-record"),
    Route(0x10, Call,             Carrier.GOSSIP, GOSSIP_BYTES_MAX, "auction.md#call"),
    Route(0x12, BidCommit,        Carrier.STREAM, 256,   "auction.md#bid-commit"),
    Route(0x13, CommitSet,        Carrier.STREAM, 4_096, "auction.md#commit-set"),
    Route(0x15, BidReveal,        Carrier.STREAM, 512,   "auction.md#bid-reveal"),
    Route(0x17, Outcome,          Carrier.STREAM, 512,   "auction.md#outcome"),
    Route(0x18, Cancel,           Carrier.STREAM, 256,   "auction.md#cancel"),
    Route(0x1B, BidRefusal,       Carrier.STREAM, 256,   "auction.md#bid-refusal"),
    Route(0x20, Award,            Carrier.STREAM, 2_048, "lease.md#award"),
    Route(0x21, AwardAccept,      Carrier.STREAM, 256,   "lease.md#award-accept"),
    Route(0x22, AwardDecline,     Carrier.STREAM, 256,   "lease.md#award-decline"),
    Route(0x23, LeaseConfirm,     Carrier.STREAM, 256,   "lease.md#lease-confirm"),
    Route(0x24, LeaseActive,      Carrier.STREAM, 256,   "lease.md#lease-active"),
    Route(0x25, LeaseRelease,     Carrier.STREAM, 1_024, "lease.md#lease-release"),
    Route(0x26, Released,         Carrier.STREAM, 2_048, "lease.md#released"),
    Route(0x30, Deploy,           Carrier.STREAM, ENVELOPE_BYTES_MAX, "lease.md#deploy"),
    Route(0x31, Ready,            Carrier.STREAM, 256,   "lease.md#ready"),
    Route(0x32, Start,            Carrier.STREAM, 256,   "lease.md#start"),
    Route(0x33, Started,          Carrier.STREAM, 256,   "lease.md#started"),
    Route(0x34, Heartbeat,        Carrier.STREAM, 256,   "lease.md#heartbeat"),
    Route(0x35, Voucher,          Carrier.STREAM, 512,   "lease.md#voucher"),
    Route(0x3A, Completed,        Carrier.STREAM, 2_560, "lease.md#completed"),
    Route(0x3B, Receipt,          Carrier.STREAM, 1_024, "lease.md#receipt"),
)  # fmt: skip
RETIRED: Final[frozenset[int]] = frozenset()
BY_NUMBER: Final = {route.number: route for route in WIRE}
NUMBER_OF: Final[dict[type, int]] = {route.message: route.number for route in WIRE}

__all__ = [
    "BY_NUMBER", "NO_ID", "NUMBER_OF", "PREPARING", "RETIRED", "RUNNING", "WIRE", "Award",
    "AwardAccept", "AwardDecline", "Bid", "BidCommit", "BidRefusal", "BidReveal", "Call", "Cancel",
    "CapabilityRecord", "Carrier", "CommitSet", "Completed", "Deploy", "GpuGroup", "Heartbeat",
    "LeaseActive", "LeaseConfirm", "LeaseRelease", "Listing", "Message", "Outcome", "Prices",
    "Ready", "Receipt", "Released", "Route", "Start", "Started", "Voucher",
]  # fmt: skip
