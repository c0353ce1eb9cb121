"""The states of an auction, as its requester sees it.

Spec: specs/machines.md#auction.
"""

from dataclasses import dataclass

from protocol.machines.effects import Effect
from protocol.rules.selection import Offer, Price
from protocol.values.ids import NO_LEASE, CallId, ContentId, JobId, LeaseId, PeerId
from protocol.values.reasons import Failure
from protocol.values.units import PPM
from protocol.wire.job import JobSpec
from protocol.wire.messages import Call


@dataclass(frozen=True, slots=True)
class Auction:
    """What stays the same from the call to the end."""

    job_id: JobId
    """The job that needs a slot first; others may follow."""
    spec: JobSpec
    call_id: CallId
    call: Call
    envelope: bytes
    expected: tuple[PeerId, ...] = ()
    """The eligible nodes that answered before; empty if they are too many to wait for."""
    avoid: tuple[PeerId, ...] = ()
    """Providers that failed this job before."""
    is_doubted: bool = False
    """Whether one of them could not prepare or start it: bidders that have served us go first."""


@dataclass(frozen=True, slots=True)
class Commitment:
    """A commitment to a bid that nobody can read yet."""

    peer: PeerId
    digest: bytes
    weight: int = PPM
    """The factor by which its ask is weighed, in millionths; fixed when the set is closed."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A provider that fits but does not bid, its reason, and when that may change."""

    peer: PeerId
    reason: int
    free_ms: int = 0


@dataclass(frozen=True, slots=True)
class Calling:
    """The call is published; commitments arrive."""

    auction: Auction
    deadline_ms: int
    commitments: tuple[Commitment, ...] = ()
    refused: tuple[Refused, ...] = ()
    extended: bool = False


@dataclass(frozen=True, slots=True)
class Opening:
    """Bids arrive: those committed to in Profile V, any in Profile Q."""

    auction: Auction
    deadline_ms: int
    commit_set: ContentId
    commitments: tuple[Commitment, ...]
    refused: tuple[Refused, ...]
    offers: tuple[Offer, ...] = ()


@dataclass(frozen=True, slots=True)
class SoldSlot:
    """One slot that an auction sold. It carries equal jobs, one at a time."""

    call_id: CallId
    provider: PeerId
    ask: int
    voucher_ms: int
    """The usage that each payment step covers, as the provider's bid states."""
    unit: int
    """Which of the provider's slots it is."""
    price: Price
    runner_up: int
    """What the best losing bid is worth, weighed; the call's highest rate if there was none."""
    shift: int
    """The number of ranks by which failed commitments raised the price."""
    passed: int
    """The number of slots sold before it that were not taken."""
    bid: ContentId
    """The content id of the reveal that won it."""
    region: str = ""
    """Where it is, if the call spreads its slots over regions."""
    binding: bool = True
    """Whether the provider has promised to take its next award."""
    after: LeaseId = NO_LEASE
    """The lease that uses the slot until its container has exited."""
    start_ms: int = 0
    """In how many ms after its deployment its provider promises to run a job; 0: no promise.
    Older snapshots lack it."""


@dataclass(frozen=True, slots=True)
class Decided:
    """Slots are sold. Until the deadline they carry jobs, and losing bids may replace them."""

    auction: Auction
    deadline_ms: int
    outcome: bytes
    """The envelope of the Outcome that every bidder receives."""
    offers: tuple[Offer, ...]
    """The bids that may win, the best first."""
    sold: tuple[SoldSlot, ...]
    """All slots that were sold, in order."""
    failed: tuple[PeerId, ...] = ()
    """Whose bids are no longer awarded, in order: each raises the shift."""
    unopened: int = 0
    awards: int = 0
    """The number of awards so far."""
    held_until_ms: int = 0
    """Until when the bids are binding."""


@dataclass(frozen=True, slots=True)
class Lapsed:
    """The time in which slots carry jobs is over."""

    auction: Auction


@dataclass(frozen=True, slots=True)
class Lost:
    """The auction ended without a sale."""

    auction: Auction
    reason: Failure
    why: str
    refused: tuple[Refused, ...] = ()


State = Calling | Opening | Decided | Lapsed | Lost
Step = tuple[State, tuple[Effect, ...]]
