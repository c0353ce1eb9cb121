"""The provider's side of one auction: from a call to an award.

Spec: specs/auction.md. A provider never opens its bid before it holds a set of commitments,
signed by the requester, that contains its own. From the opening on its bid binds, and capacity is
softly reserved; a loser keeps its bid ready, since the award may pass to it.
"""

from dataclasses import dataclass
from typing import Final

from protocol.machines.context import Context
from protocol.machines.effects import Effect, Send
from protocol.machines.inputs import DeadlineReached
from protocol.machines.table import NOTHING, Pairs, Transitions, all_pairs
from protocol.rules.capacity import Capacity, Reservation, reserve
from protocol.rules.commitment import commitment_of
from protocol.rules.pricing import floor_rate
from protocol.values.ids import CallId, ContentId, PeerId
from protocol.values.limits import EXPOSURE_MS, RETAIN_MS, VOUCHER_MS
from protocol.values.reasons import Refusal
from protocol.wire.envelope import Signed
from protocol.wire.job import QUICK
from protocol.wire.messages import (
    NO_ID,
    Award,
    Bid,
    BidCommit,
    BidRefusal,
    BidReveal,
    Call,
    Cancel,
    CommitSet,
    Outcome,
)

NETWORK_SLACK_MS: Final = 2_000
"""How much longer than the requester's window a provider waits: messages travel."""


@dataclass(frozen=True, slots=True)
class Bidding:
    """What stays the same from the call to the award."""

    call_id: CallId
    call: Call
    requester: PeerId
    bid: Bid
    nonce: bytes
    reservation: Reservation


@dataclass(frozen=True, slots=True)
class Committed:
    """Our commitment is out; nothing is reserved yet."""

    bidding: Bidding
    deadline_ms: int


@dataclass(frozen=True, slots=True)
class Revealed:
    """Our bid is open and binds; capacity is reserved."""

    bidding: Bidding
    deadline_ms: int
    commit_set: CommitSet | None
    """The set that holds our commitment; None in Profile Q, which has no commitments."""


@dataclass(frozen=True, slots=True)
class Standby:
    """Another won; our bid still binds if the award passes to us, but nothing is reserved."""

    revealed: Revealed
    deadline_ms: int


@dataclass(frozen=True, slots=True)
class Over:
    """Nothing is to be won any more."""


Open = Committed | Revealed | Standby
State = Committed | Revealed | Standby | Over
Step = tuple[State, tuple[Effect, ...]]


def answer_call(event: Signed[Call], left: Capacity, context: Context) -> Step:
    """Commit to a bid, bid at once in Profile Q, or say why not.

    The call matches our own capability record; `left` is what is not promised to others.
    """
    call, call_id = event.message, CallId(event.content_id)
    ask = floor_rate(context.policy.prices, call.resources)
    reservation = reserve(left, call.resources)
    if reservation is None:
        return _refuse(event, Refusal.BUSY, context)
    if ask > call.rate_max:
        return _refuse(event, Refusal.PRICE, context)
    policy = context.policy
    bid = Bid(ask, policy.driver, policy.isolation, VOUCHER_MS, EXPOSURE_MS, RETAIN_MS)
    nonce = context.signer.secret(b"bid", call_id)
    bidding = Bidding(call_id, call, event.signer, bid, nonce, reservation)
    if call.profile == QUICK:
        return _reveal(bidding, NO_ID, None, context)
    commitment = commitment_of(call_id, context.signer.peer_id, bid, nonce)
    committed = context.signer.sign(BidCommit(call_id, commitment))
    deadline_ms = context.now_ms + 2 * call.commit_ms + NETWORK_SLACK_MS
    send = Send(event.signer, committed.envelope, context.now_ms + call.commit_ms)
    return Committed(bidding, deadline_ms), (send,)


def reveal(state: Committed, event: Signed[CommitSet], context: Context) -> Step:
    """Open our bid, if the requester has signed a set that holds our commitment."""
    bidding = state.bidding
    own = commitment_of(bidding.call_id, context.signer.peer_id, bidding.bid, bidding.nonce)
    if event.signer != bidding.requester or own not in event.message.commitments:
        return state, NOTHING
    return _reveal(bidding, event.content_id, event.message, context)


def stand_by(state: Revealed, event: Signed[Outcome], context: Context) -> Step:
    """Release our reservation if another won, but keep the bid ready."""
    lost = event.message.winner != context.signer.peer_id
    if event.signer != state.bidding.requester or not lost:
        return state, NOTHING
    if not event.message.winner:
        return Over(), NOTHING
    return Standby(state, state.deadline_ms), NOTHING


def withdraw(state: Open, event: Signed[Cancel], context: Context) -> Step:
    """Release everything, since the requester has called its auction off."""
    requester = (state.revealed if isinstance(state, Standby) else state).bidding.requester
    return (Over(), NOTHING) if event.signer == requester else (state, NOTHING)


def forget(state: Open, event: DeadlineReached, context: Context) -> Step:
    """Release everything, since the requester fell silent or our bid binds no longer."""
    return Over(), NOTHING


TRANSITIONS: Final[Transitions] = {
    (Committed, CommitSet): reveal,
    (Committed, Cancel): withdraw,
    (Committed, DeadlineReached): forget,
    (Revealed, Outcome): stand_by,
    (Revealed, Cancel): withdraw,
    (Revealed, DeadlineReached): forget,
    (Standby, Cancel): withdraw,
    (Standby, DeadlineReached): forget,
}
INPUTS: Final = (CommitSet, Outcome, Cancel, DeadlineReached)
# Late or repeated: a set we know, an outcome we heard, anything about an auction that is over.
IGNORED: Final[Pairs] = all_pairs(State, INPUTS) - TRANSITIONS.keys()


def reserved(state: State) -> Reservation | None:
    """Return the capacity that a state keeps for its bid, or None."""
    return state.bidding.reservation if isinstance(state, Revealed) else None


def awardable(state: State, event: Signed[Award]) -> Revealed | None:
    """Return the bid that an award is for, or None if we have none open for this requester."""
    revealed = state.revealed if isinstance(state, Standby) else state
    if isinstance(revealed, Revealed) and event.signer == revealed.bidding.requester:
        return revealed
    return None


def _reveal(
    bidding: Bidding, commit_set_id: ContentId, commit_set: CommitSet | None, context: Context
) -> Step:
    opened = context.signer.sign(
        BidReveal(bidding.call_id, commit_set_id, bidding.bid, bidding.nonce)
    )
    call = bidding.call
    window_ms = call.reveal_ms if commit_set else call.commit_ms
    deadline_ms = context.now_ms + window_ms + call.hold_ms + NETWORK_SLACK_MS
    send = Send(bidding.requester, opened.envelope, context.now_ms + window_ms)
    return Revealed(bidding, deadline_ms, commit_set), (send,)


def _refuse(event: Signed[Call], reason: Refusal, context: Context) -> Step:
    refusal = context.signer.sign(BidRefusal(CallId(event.content_id), reason))
    # A courtesy to a stranger: said once, without a trace on our disk.
    return Over(), (Send(event.signer, refusal.envelope, 0),)
