"""The states of an auction, as its requester sees it.

Spec: specs/machines.md#auction.
"""

from dataclasses import dataclass

from protocol.machines.effects import Effect
from protocol.rules.selection import Offer
from protocol.values.ids import CallId, ContentId, JobId, LeaseId, PeerId
from protocol.values.reasons import Failure
from protocol.wire.job import JobSpec
from protocol.wire.messages import Call


@dataclass(frozen=True, slots=True)
class Auction:
    """What stays the same from the call to the end."""

    job_id: JobId
    spec: JobSpec
    call_id: CallId
    call: Call
    envelope: bytes
    expected: tuple[PeerId, ...] = ()
    """The eligible nodes that answered before; empty if they are too many to wait for."""
    avoid: tuple[PeerId, ...] = ()
    """Providers that failed this job before."""


@dataclass(frozen=True, slots=True)
class Commitment:
    """A commitment to a bid that nobody can read yet."""

    peer: PeerId
    digest: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """A provider that fits but does not bid, and its reason."""

    peer: PeerId
    reason: int


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
class Ranking:
    """The bids that may still win, the best first, while they are binding."""

    offers: tuple[Offer, ...]
    shift: int
    """The number of ranks by which failed commitments raise the price."""
    passed: int
    """The number of better bids that failed."""
    held_until_ms: int
    outcome: bytes
    """The envelope of the Outcome that every bidder receives."""


@dataclass(frozen=True, slots=True)
class Awarding:
    """The best bidder has our award, and has not answered yet."""

    auction: Auction
    deadline_ms: int
    ranking: Ranking
    award: ContentId
    lease_id: LeaseId
    rate: int

    @property
    def winner(self) -> PeerId:
        return self.ranking.offers[0].peer


@dataclass(frozen=True, slots=True)
class Confirming:
    """The winner accepted and has our confirmation; the lease is not active yet."""

    awarding: Awarding
    deadline_ms: int
    contract: ContentId


@dataclass(frozen=True, slots=True)
class Won:
    """A provider holds an active lease for the job."""

    auction: Auction
    provider: PeerId
    lease_id: LeaseId
    contract: ContentId
    rate: int
    voucher_ms: int
    """The usage that each payment step covers, as the provider's bid states."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The auction ended without a lease."""

    auction: Auction
    reason: Failure
    why: str


State = Calling | Opening | Awarding | Confirming | Won | Lost
Step = tuple[State, tuple[Effect, ...]]


def auction_of(state: State) -> Auction:
    """Return what stays the same through all states."""
    return state.awarding.auction if isinstance(state, Confirming) else state.auction


def lease_of(state: State) -> LeaseId | None:
    """Return the lease that is awarded and not active yet; None if there is none."""
    awarding = state.awarding if isinstance(state, Confirming) else state
    return awarding.lease_id if isinstance(awarding, Awarding) else None
