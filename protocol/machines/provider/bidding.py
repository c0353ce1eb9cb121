"""The provider's side of one auction: from a call to an award.

Spec: specs/auction.md. A provider opens its bid only after it has received a set of commitments
that the requester signed and that contains its own. An opened bid is binding for a while, even if
it loses, because an award may pass to it. After that it stands by: further awards may come, and
the provider accepts those for which it has capacity. A bid reserves nothing: the first award gets
the capacity. Bids are not saved: unpaid work costs no disk, and after a crash a bid is simply lost.
"""

from dataclasses import dataclass
from typing import Final

from protocol.machines.context import Context
from protocol.machines.effects import Effect, Send
from protocol.machines.inputs import DeadlineReached
from protocol.machines.table import NOTHING, Groups, Transitions, pairs
from protocol.rules.capacity import Capacity, slots_in
from protocol.rules.commitment import commitment_of
from protocol.rules.pricing import ask_of, list_rate, load_of
from protocol.values.ids import CallId, PeerId
from protocol.values.limits import EXPOSURE_MS, RETAIN_MS, SLOTS_MAX, VOUCHER_MS
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
"""How much longer than the requester's window a provider waits, to allow for message delay."""


@dataclass(frozen=True, slots=True)
class Bidding:
    """What stays the same from the call to the award."""

    call_id: CallId
    call: Call
    requester: PeerId
    bid: Bid
    nonce: bytes


@dataclass(frozen=True, slots=True)
class Committed:
    """Our commitment is sent; nobody has seen our bid yet."""

    bidding: Bidding
    deadline_ms: int


@dataclass(frozen=True, slots=True)
class Revealed:
    """Our bid is open and binding, whoever wins first."""

    bidding: Bidding
    deadline_ms: int
    commit_set: Signed[CommitSet] | None
    """The set that contains our commitment; None in Profile Q, which has no commitments."""


@dataclass(frozen=True, slots=True)
class StandingBy:
    """Our bid no longer binds us, but an award may still come."""

    bidding: Bidding
    deadline_ms: int
    commit_set: Signed[CommitSet] | None


@dataclass(frozen=True, slots=True)
class Over:
    """The auction is over for us."""


Opened = Revealed | StandingBy
State = Committed | Revealed | StandingBy | Over
Step = tuple[State, tuple[Effect, ...]]


def answer_call(event: Signed[Call], left: Capacity, free_ms: int, context: Context) -> Step:
    """Commit to a bid (in Profile Q: bid at once), or refuse with a reason.

    The call matches our own capability record; `left` is the capacity that no lease has taken, and
    in `free_ms` more of it is free at the latest.
    """
    call, call_id = event.message, CallId(event.content_id)
    policy = context.policy
    listed = list_rate(policy.prices, call.resources)
    ask = ask_of(listed, policy.floor_percent, load_of(policy.capacity, left))
    slots = slots_in(left, call.resources, SLOTS_MAX)
    if slots == 0:
        return refuse(event, Refusal.BUSY, context, free_ms)
    if ask > call.rate_max:
        return refuse(event, Refusal.PRICE, context)
    bid = Bid(ask, policy.driver, policy.isolation, VOUCHER_MS, EXPOSURE_MS, RETAIN_MS, slots)
    nonce = context.signer.secret(b"bid", call_id)
    bidding = Bidding(call_id, call, event.signer, bid, nonce)
    if call.profile == QUICK:
        return _reveal(bidding, None, context)
    commitment = commitment_of(call_id, context.signer.peer_id, bid, nonce)
    committed = context.signer.sign(BidCommit(call_id, commitment))
    deadline_ms = context.now_ms + 2 * call.commit_ms + NETWORK_SLACK_MS
    send = Send(event.signer, committed.envelope, context.now_ms + call.commit_ms, durable=False)
    return Committed(bidding, deadline_ms), (send,)


def reveal(state: Committed, event: Signed[CommitSet], context: Context) -> Step:
    """Open our bid if the requester has signed a set that contains our commitment."""
    bidding = state.bidding
    own = commitment_of(bidding.call_id, context.signer.peer_id, bidding.bid, bidding.nonce)
    if event.signer != bidding.requester or own not in event.message.commitments:
        return state, NOTHING
    return _reveal(bidding, event, context)


def hear_outcome(state: Revealed, event: Signed[Outcome], context: Context) -> Step:
    """Discard our bid if nobody won; if another bidder won, the award may still pass to us."""
    over = event.signer == state.bidding.requester and not event.message.winners
    return (Over(), NOTHING) if over else (state, NOTHING)


def withdraw(state: Committed | Revealed, event: Signed[Cancel], context: Context) -> Step:
    """Discard our bid: the requester has cancelled its auction."""
    over = event.signer == state.bidding.requester
    return (Over(), NOTHING) if over else (state, NOTHING)


def stand_by(state: Revealed, event: DeadlineReached, context: Context) -> Step:
    """Keep our bid, which is no longer binding, if the requester may award it again."""
    reuse_ms = state.bidding.call.reuse_ms
    if not reuse_ms:
        return Over(), NOTHING
    deadline_ms = context.now_ms + reuse_ms
    return StandingBy(state.bidding, deadline_ms, state.commit_set), NOTHING


def forget(state: Committed | StandingBy, event: DeadlineReached, context: Context) -> Step:
    """Discard our bid: the requester fell silent, or the bid is too old."""
    return Over(), NOTHING


TRANSITIONS: Final[Transitions] = {
    (Committed, CommitSet): reveal,
    (Committed, Cancel): withdraw,
    (Committed, DeadlineReached): forget,
    (Revealed, Outcome): hear_outcome,
    (Revealed, Cancel): withdraw,
    (Revealed, DeadlineReached): stand_by,
    (StandingBy, DeadlineReached): forget,
}
INPUTS: Final = (CommitSet, Outcome, Cancel, DeadlineReached)
IGNORED: Final[Groups] = {
    "late or repeated: our bid is open": (
        pairs({Revealed, StandingBy}, {CommitSet}) | pairs({StandingBy}, {Outcome, Cancel})
    ),
    "we had opened our bid, crashed, and heard the call again": pairs({Committed}, {Outcome}),
    "the auction has ended for us": pairs({Over}, INPUTS),
}
ILLEGAL: Final[Groups] = {}


def awardable(state: State, event: Signed[Award]) -> Opened | None:
    """Return the bid that an award is for, or None if we have none open for this requester."""
    if isinstance(state, Opened) and event.signer == state.bidding.requester:
        return state
    return None


def _reveal(bidding: Bidding, commit_set: Signed[CommitSet] | None, context: Context) -> Step:
    set_id = commit_set.content_id if commit_set else NO_ID
    opened = context.signer.sign(BidReveal(bidding.call_id, set_id, bidding.bid, bidding.nonce))
    call = bidding.call
    window_ms = call.reveal_ms if commit_set else call.commit_ms
    deadline_ms = context.now_ms + window_ms + call.hold_ms + NETWORK_SLACK_MS
    send = Send(bidding.requester, opened.envelope, context.now_ms + window_ms, durable=False)
    return Revealed(bidding, deadline_ms, commit_set), (send,)


def refuse(event: Signed[Call], reason: Refusal, context: Context, free_ms: int = 0) -> Step:
    """Tell the requester why we do not bid."""
    refusal = context.signer.sign(BidRefusal(CallId(event.content_id), reason, free_ms))
    # A courtesy to a stranger: sent without the outbox.
    return Over(), (Send(event.signer, refusal.envelope, 0),)
