"""The provider's side of one auction: from a call to an award.

Spec: specs/auction.md. A provider opens its bid only after it has received a set of commitments
that the requester signed and that contains its own. An opened bid is binding for a while, even if
it loses, because an award may pass to it. After that it stands by: further awards may come, and
the provider accepts those for which it has capacity. A bid reserves nothing: the first award gets
the capacity. Bids are not saved: unpaid work costs no disk, and after a crash a bid is simply lost.
"""

from dataclasses import dataclass, replace
from typing import Any, Final

from protocol.machines.context import Context
from protocol.machines.effects import Accuse, Effect, Send
from protocol.machines.inputs import DeadlineReached
from protocol.machines.table import NOTHING, Groups, Transitions, pairs
from protocol.rules.capacity import Capacity, slots_in
from protocol.rules.commitment import commitment_of
from protocol.rules.fraud import Fraud, prove
from protocol.rules.owner_rules import least_ask
from protocol.rules.pricing import ask_of, list_rate, load_of, part_of, raised_ask
from protocol.rules.standing import is_suspect
from protocol.rules.start_promise import promise_of
from protocol.rules.verification import (
    OpenedBid,
    award_fault,
    loss_fault,
    set_fault,
    shown_set,
)
from protocol.values.egress import may_allow
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
    SetCheck,
)

NETWORK_SLACK_MS: Final = 2_000
"""How much longer than the requester's window a provider waits, to allow for message delay."""


@dataclass(frozen=True, slots=True)
class Bidding:
    """What stays the same from the call to the award."""

    called: Signed[Call]
    bid: Bid
    nonce: bytes

    @property
    def call_id(self) -> CallId:
        """Which auction it is."""
        return CallId(self.called.content_id)

    @property
    def call(self) -> Call:
        """What the requester wants."""
        return self.called.message

    @property
    def requester(self) -> PeerId:
        """Who called."""
        return self.called.signer


@dataclass(frozen=True, slots=True)
class Shown:
    """A set of our requester, as another bidder shows it."""

    peer: PeerId
    commit_set: Signed[CommitSet]


@dataclass(frozen=True, slots=True)
class Committed:
    """Our commitment is sent; nobody has seen our bid yet."""

    bidding: Bidding
    deadline_ms: int
    shown: Shown | None = None
    """The first set that another bidder has shown us; None until then."""


@dataclass(frozen=True, slots=True)
class Revealed:
    """Our bid is open and binding, whoever wins first."""

    bidding: Bidding
    deadline_ms: int
    bid: OpenedBid
    outcome: bytes = b""
    """The envelope of the Outcome that we heard; empty until then."""


@dataclass(frozen=True, slots=True)
class StandingBy:
    """Our bid no longer binds us, but an award may still come."""

    bidding: Bidding
    deadline_ms: int
    bid: OpenedBid
    outcome: bytes = b""


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
    if policy.rules.gpu_floors:
        rest = list_rate(policy.prices, replace(call.resources, gpus=0))
        floor = part_of(rest, policy.floor_percent)
        ask = max(ask, min(least_ask(policy.rules, call.resources, left.devices, floor), listed))
    if is_suspect(context.standing_of(event.signer), context.now_ms):
        ask = raised_ask(ask, listed)
    slots = slots_in(left, call.resources, SLOTS_MAX)
    if slots == 0:
        return refuse(event, Refusal.BUSY, context, free_ms)
    if ask > call.rate_max:
        return refuse(event, Refusal.PRICE, context)
    bid = Bid(
        ask, policy.driver, policy.isolation, VOUCHER_MS, EXPOSURE_MS, RETAIN_MS, slots,
        policy.region if call.spread else "", promise_of(call, context.preparation),
    )  # fmt: skip
    nonce = context.signer.secret(b"bid", call_id)
    bidding = Bidding(event, bid, nonce)
    if call.profile == QUICK:
        return _reveal(bidding, None, context)
    commitment = commitment_of(call_id, context.signer.peer_id, bid, nonce)
    committed = context.signer.sign(BidCommit(call_id, commitment))
    deadline_ms = context.now_ms + 2 * call.commit_ms + NETWORK_SLACK_MS
    send = Send(event.signer, committed.envelope, context.now_ms + call.commit_ms, durable=False)
    return Committed(bidding, deadline_ms), (send,)


def unreachable(call: Call, context: Context) -> Refusal | None:
    """Return EGRESS if the jobs want to reach a suffix of which the owner allows no name."""
    return None if may_allow(context.policy.egress, call.egress) else Refusal.EGRESS


def reveal(state: Committed, event: Signed[CommitSet], context: Context) -> Step:
    """Open our bid if the requester's set contains our commitment, unless it has signed two."""
    bidding = state.bidding
    own = commitment_of(bidding.call_id, context.signer.peer_id, bidding.bid, bidding.nonce)
    if event.signer != bidding.requester:
        return state, NOTHING
    if state.shown and state.shown.commit_set.content_id != event.content_id:
        return _leave(bidding.called, event, state.shown, context)
    if own not in event.message.commitments or set_fault(event.message):
        return state, NOTHING
    return _reveal(bidding, event, context)


def note_shown(state: Committed, event: Signed[SetCheck], context: Context) -> Step:
    """Remember the set that another bidder shows us: the requester must send us the same."""
    called = state.bidding.called
    shown = _shown(event, called, context)
    if shown is None or state.shown is None:
        return replace(state, shown=shown or state.shown), NOTHING
    if shown.commit_set.content_id == state.shown.commit_set.content_id:
        return state, NOTHING
    return _leave(called, state.shown.commit_set, shown, context)


def compare_shown(state: Opened, event: Signed[SetCheck], context: Context) -> Step:
    """Accuse a requester that has sent another bidder another set, and show that bidder ours."""
    call, held = state.bid.call, state.bid.commit_set
    if held is None or event.message.commit_set == held.envelope:
        return state, NOTHING
    shown = _shown(event, call, context)
    if shown is None or shown.commit_set.content_id == held.content_id:
        return state, NOTHING
    return _leave(call, held, shown, context)


def compare_set(state: Opened, event: Signed[CommitSet], context: Context) -> Step:
    """Accuse a requester that has signed another set for the same auction, and leave it."""
    call, held = state.bid.call, state.bid.commit_set
    if event.signer != call.signer or held is None or event.content_id == held.content_id:
        return state, NOTHING
    both = held.envelope, event.envelope
    return Over(), _accuse(Fraud.EQUIVOCATION, context, call.envelope, *both)


def hear_outcome(state: Opened, event: Signed[Outcome], context: Context) -> Step:
    """Discard our bid if nobody won; if another bidder won, the award may still pass to us.

    Accuse a requester whose outcome contradicts our bid, or an outcome that we heard before.
    """
    bid, told = state.bid, event.envelope
    if event.signer != bid.call.signer or told == state.outcome:
        return state, NOTHING
    if state.outcome:
        both = state.outcome, told
        return Over(), _accuse(Fraud.EQUIVOCATION, context, bid.call.envelope, *both)
    if loss_fault(bid, event.message):
        return Over(), _accuse(Fraud.WRONGLY_LOST, context, *bid.envelopes, told)
    if not event.message.winners:
        return Over(), NOTHING
    return replace(state, outcome=told), NOTHING


def check_award(
    state: Opened, event: Signed[Award], context: Context
) -> tuple[Opened | None, tuple[Effect, ...]]:
    """Return our bid as it is after its award, or None if the award breaks the rules.

    In that case the requester is accused, if this can be proven.
    """
    bid, told = state.bid, event.message.outcome
    if award_fault(bid, event.message, context.signer.network_id):
        wrong = _accuse(Fraud.WRONG_PRICE, context, *bid.envelopes, event.envelope)
        return None, wrong
    if state.outcome not in {b"", told}:
        return None, _accuse(Fraud.EQUIVOCATION, context, bid.call.envelope, state.outcome, told)
    return replace(state, outcome=told), NOTHING


def aborted_by(before: State, event: Any) -> PeerId | None:
    """Return the requester that may have read our bid and ends its auction without an outcome.

    An outcome in which nobody won is none unless it counts our bid: then it can be verified. Only
    in Profile V: in a quick auction, an outcome goes only to those whose bids have arrived.
    """
    if not isinstance(before, Revealed) or before.outcome or before.bid.commit_set is None:
        return None
    requester = before.bidding.requester
    match event:
        case DeadlineReached():
            return requester
        case Signed(signer, Cancel()) if signer == requester:
            return requester
        case Signed(signer, Outcome(winners=(), opened=opened)) if signer == requester:
            return None if before.bid.position in opened else requester
    return None


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
    return StandingBy(state.bidding, deadline_ms, state.bid, state.outcome), NOTHING


def forget(state: Committed | StandingBy, event: DeadlineReached, context: Context) -> Step:
    """Discard our bid: the requester fell silent, or the bid is too old."""
    return Over(), NOTHING


TRANSITIONS: Final[Transitions] = {
    (Committed, CommitSet): reveal,
    (Committed, SetCheck): note_shown,
    (Committed, Cancel): withdraw,
    (Committed, DeadlineReached): forget,
    (Revealed, CommitSet): compare_set,
    (Revealed, SetCheck): compare_shown,
    (Revealed, Outcome): hear_outcome,
    (Revealed, Cancel): withdraw,
    (Revealed, DeadlineReached): stand_by,
    (StandingBy, CommitSet): compare_set,
    (StandingBy, SetCheck): compare_shown,
    (StandingBy, Outcome): hear_outcome,
    (StandingBy, DeadlineReached): forget,
}
INPUTS: Final = (CommitSet, SetCheck, Outcome, Cancel, DeadlineReached)
IGNORED: Final[Groups] = {
    "late: our bid binds us no longer anyway": pairs({StandingBy}, {Cancel}),
    "the set was lost, or we had opened our bid, crashed, and heard the call again": (
        pairs({Committed}, {Outcome})
    ),
    "the auction has ended for us": pairs({Over}, INPUTS),
}
ILLEGAL: Final[Groups] = {}


def awardable(state: State, event: Signed[Award]) -> Opened | None:
    """Return the bid that an award is for, or None if we have not opened it to this requester."""
    if not isinstance(state, Opened) or event.signer != state.bidding.requester:
        return None
    return state if event.message.bid == state.bid.reveal.content_id else None


def show(commit_set: Signed[CommitSet], peer: PeerId, context: Context) -> Send:
    """Return the message that shows another bidder the set of an auction, sent once."""
    check = SetCheck(commit_set.message.call_id, commit_set.envelope)
    return Send(peer, context.signer.sign(check).envelope, 0)


def _shown(event: Signed[SetCheck], call: Signed[Call], context: Context) -> Shown | None:
    """Return the set that another bidder shows; None if our requester has not signed it."""
    signed = shown_set(call, event.message.commit_set, context.signer.network_id)
    return None if signed is None else Shown(event.signer, signed)


def _leave(call: Signed[Call], held: Signed[CommitSet], shown: Shown, context: Context) -> Step:
    """Leave an auction that has two different sets, and show who has the other one ours."""
    both = held.envelope, shown.commit_set.envelope
    accusation = _accuse(Fraud.EQUIVOCATION, context, call.envelope, *both)
    return Over(), (*accusation, show(held, shown.peer, context))


def _accuse(fraud: Fraud, context: Context, *messages: bytes) -> tuple[Effect, ...]:
    """Return the accusation that these messages of an auction prove; nothing if they prove none."""
    proven = prove(fraud, context.signer.network_id, *messages)
    return (Accuse(proven[1], proven[0]),) if proven else NOTHING


def _reveal(bidding: Bidding, commit_set: Signed[CommitSet] | None, context: Context) -> Step:
    set_id = commit_set.content_id if commit_set else NO_ID
    opened = context.signer.sign(BidReveal(bidding.call_id, set_id, bidding.bid, bidding.nonce))
    call = bidding.call
    window_ms = call.reveal_ms if commit_set else call.commit_ms
    deadline_ms = context.now_ms + window_ms + call.hold_ms + NETWORK_SLACK_MS
    send = Send(bidding.requester, opened.envelope, context.now_ms + window_ms, durable=False)
    return Revealed(bidding, deadline_ms, OpenedBid(bidding.called, commit_set, opened)), (send,)


def refuse(event: Signed[Call], reason: Refusal, context: Context, free_ms: int = 0) -> Step:
    """Tell the requester why we do not bid."""
    refusal = context.signer.sign(BidRefusal(CallId(event.content_id), reason, free_ms))
    # A courtesy to a stranger: sent without the outbox.
    return Over(), (Send(event.signer, refusal.envelope, 0),)
