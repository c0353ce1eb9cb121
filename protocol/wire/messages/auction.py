"""The messages of an auction, from the call for bids to its outcome.

Spec: specs/auction-messages.md.
"""

from dataclasses import dataclass
from typing import Annotated, Final

from protocol.values.egress import CLASS_BYTES_MAX
from protocol.values.ids import CallId, ContentId, Digest, PeerId
from protocol.values.limits import (
    BIDS_MAX,
    INVITED_MAX,
    QUERY_BYTES_MAX,
    RETAIN_MS,
    REUSE_MS_MAX,
    ROUND_TRIP_US_MAX,
    SET_MAX,
    SLOTS_MAX,
    START_MS_MAX,
    START_PERCENT_MAX,
    WEIGHT_MAX,
    WINDOW_MS_MAX,
)
from protocol.values.units import PPM
from protocol.wire.job import (
    BLOB_SIZE_MAX,
    LAYERS_MAX,
    QUICK,
    TIMEOUT_MS_MAX,
    VICKREY,
    LayerRef,
    Resources,
)
from protocol.wire.schema import DIGEST, PEER, RATE, Bytes, Flag, Int, Key, Many, Record, Text

NO_ID = ContentId(bytes(32))
LOTTERY_ALL: Final = 1_000_000
"""Every provider may bid."""
NO_LOSER: Final = RATE.high * WEIGHT_MAX // PPM + 1
"""More than the score of any bid: no bid has lost."""


@dataclass(frozen=True, slots=True)
class Call:
    """A requester asks providers to bid for equal slots. Its content id identifies the auction."""

    nonce: Annotated[bytes, Key(1), Bytes(16, 16)]
    profile: Annotated[int, Key(2), Int(QUICK, VICKREY)]
    issued_ms: Annotated[int, Key(3), Int()]
    resources: Annotated[Resources, Key(4), Record(Resources)]
    rate_max: Annotated[int, Key(5), Int(1, 10**12)]
    usage_ms_max: Annotated[int, Key(6), Int(1_000, TIMEOUT_MS_MAX)]
    commit_ms: Annotated[int, Key(7), Int(100, WINDOW_MS_MAX)]
    reveal_ms: Annotated[int, Key(8), Int(0, WINDOW_MS_MAX)]
    hold_ms: Annotated[int, Key(9), Int(2_000, 15_000)]
    shift_cap: Annotated[int, Key(10), Int(0, 4)]
    image: Annotated[Digest, Key(11), DIGEST]
    fetch_bytes: Annotated[int, Key(12), Int(0, BLOB_SIZE_MAX)]
    region: Annotated[str, Key(13), Text(32)] = ""
    drivers: Annotated[tuple[str, ...], Key(14), Many(Text(32, 1), 8)] = ()
    addresses: Annotated[tuple[str, ...], Key(16), Many(Text(128, 1), 3)] = ()
    hard_limits: Annotated[bool, Key(17), Flag()] = False
    slots: Annotated[int, Key(18), Int(1, SLOTS_MAX)] = 1
    """The most slots that the auction sells. Each carries one job at a time."""
    reuse_ms: Annotated[int, Key(19), Int(0, REUSE_MS_MAX)] = 0
    """How long after the decision a bid may still be awarded, to carry further equal jobs."""
    lottery: Annotated[int, Key(20), Int(1, LOTTERY_ALL)] = LOTTERY_ALL
    """The share of providers that may bid, in millionths."""
    where: Annotated[str, Key(21), Text(QUERY_BYTES_MAX)] = ""
    """A query that a provider must fit."""
    gang: Annotated[bool, Key(22), Flag()] = False
    """Whether the slots carry the members of one job: all are sold, or none."""
    spread: Annotated[bool, Key(23), Flag()] = False
    """Whether each slot is in a region of its own: a bid counts as one slot, in its region."""
    max_round_trip_us: Annotated[int, Key(24), Int(0, ROUND_TRIP_US_MAX)] = 0
    """The longest round trip between the winners, who will be asked to measure it; 0: any."""
    invited: Annotated[tuple[bytes, ...], Key(25), Many(Bytes(8, 8), INVITED_MAX)] = ()
    """Providers that may bid whatever the lottery says."""
    input_bytes: Annotated[int, Key(26), Int(0, BLOB_SIZE_MAX)] = 0
    """How much of `fetch_bytes` is inputs; the rest is the image."""
    start_percent: Annotated[int, Key(27), Int(0, START_PERCENT_MAX)] = 0
    """By how much each minute to the promised start makes a bid dearer, in percent."""
    layers: Annotated[tuple[LayerRef, ...], Key(29), Many(Record(LayerRef), LAYERS_MAX)] = ()
    """The largest layers of the image, the largest first."""
    egress: Annotated[bytes, Key(28), Bytes(0, CLASS_BYTES_MAX)] = b""
    """Marks of the suffixes that the jobs want to reach, or `*` for any; empty: none."""


@dataclass(frozen=True, slots=True)
class Bid:
    """A provider's price and conditions for each slot."""

    ask: Annotated[int, Key(1), RATE]
    driver: Annotated[str, Key(2), Text(32, 1)]
    isolation: Annotated[int, Key(3), Int(1, 255)]
    voucher_ms: Annotated[int, Key(4), Int(2_000, 60_000)]
    exposure_ms: Annotated[int, Key(5), Int(1_000, 600_000)]
    retain_ms: Annotated[int, Key(6), Int(0, RETAIN_MS)]
    slots: Annotated[int, Key(7), Int(1, SLOTS_MAX)] = 1
    """How many slots the provider can serve at the same time."""
    region: Annotated[str, Key(8), Text(32)] = ""
    """The region of the provider, if the call spreads its slots over regions."""
    start_ms: Annotated[int, Key(9), Int(0, START_MS_MAX)] = 0
    """How long after its deployment a job runs at the latest; 0: the provider promises nothing."""


@dataclass(frozen=True, slots=True)
class BidCommit:
    """A provider commits to a bid that nobody can read yet."""

    call_id: Annotated[CallId, Key(1), DIGEST]
    commitment: Annotated[bytes, Key(2), DIGEST]


@dataclass(frozen=True, slots=True)
class BidRefusal:
    """A provider whose record fits the call says why it does not bid."""

    call_id: Annotated[CallId, Key(1), DIGEST]
    reason: Annotated[int, Key(2), Int(1, 255)]
    free_ms: Annotated[int, Key(3), Int(0, TIMEOUT_MS_MAX)] = 0
    """In how long the capacity is free at the latest; 0 if unknown."""


@dataclass(frozen=True, slots=True)
class CapacityFree:
    """A provider that refused a call as busy has capacity for it now. It binds nobody."""

    call_id: Annotated[CallId, Key(1), DIGEST]


@dataclass(frozen=True, slots=True)
class CommitSet:
    """The requester closes the sorted set of commitments before it has seen any bid."""

    call_id: Annotated[CallId, Key(1), DIGEST]
    commitments: Annotated[tuple[bytes, ...], Key(2), Many(DIGEST, BIDS_MAX, 1)]
    weights: Annotated[tuple[int, ...], Key(3), Many(Int(PPM, WEIGHT_MAX), BIDS_MAX)] = ()
    """A factor for each commitment, in millionths, by which its ask is weighed."""


@dataclass(frozen=True, slots=True)
class SetCheck:
    """A bidder shows another one the set that the requester sent it: theirs must be equal."""

    call_id: Annotated[CallId, Key(1), DIGEST]
    commit_set: Annotated[bytes, Key(2), Bytes(1, SET_MAX)]
    """The envelope of the CommitSet."""


@dataclass(frozen=True, slots=True)
class BidReveal:
    """A provider opens its commitment; in Profile Q this is its bid."""

    call_id: Annotated[CallId, Key(1), DIGEST]
    commit_set: Annotated[ContentId, Key(2), DIGEST]
    bid: Annotated[Bid, Key(3), Record(Bid)]
    nonce: Annotated[bytes, Key(4), DIGEST]


@dataclass(frozen=True, slots=True)
class Winner:
    """The slots that one bidder won."""

    peer: Annotated[PeerId, Key(1), PEER]
    slots: Annotated[int, Key(2), Int(1, SLOTS_MAX)]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The requester tells every bidder how the auction ended."""

    call_id: Annotated[CallId, Key(1), DIGEST]
    commit_set: Annotated[ContentId, Key(2), DIGEST]
    winners: Annotated[tuple[Winner, ...], Key(3), Many(Record(Winner), BIDS_MAX)]
    """The best bid first; empty if nobody won."""
    clearing: Annotated[int, Key(4), RATE]
    """The rate of the first winner's first slot; 0 if nobody won."""
    opened: Annotated[tuple[int, ...], Key(5), Many(Int(0, BIDS_MAX - 1), BIDS_MAX)]
    """The positions in the set, from 0, of the commitments that were opened, ascending."""
    losing_score: Annotated[int, Key(6), Int(0, NO_LOSER)]
    """The least score of a bid that has slots left; NO_LOSER if none has."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """The requester cancels its auction before the decision."""

    call_id: Annotated[CallId, Key(1), DIGEST]
