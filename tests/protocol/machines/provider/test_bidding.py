"""A provider in one auction: it opens its bid to a signed set that holds it, and once.

Spec: specs/auction.md.
"""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from protocol.machines.context import Context
from protocol.machines.effects import Accuse
from protocol.machines.inputs import DeadlineReached
from protocol.machines.provider import bidding
from protocol.machines.provider.bidding import (
    Committed,
    Over,
    Revealed,
    StandingBy,
    answer_call,
    awardable,
)
from protocol.machines.table import step
from protocol.rules.capacity import Capacity
from protocol.rules.commitment import commitment_of
from protocol.rules.fraud import Fraud, verify
from protocol.rules.pricing import list_rate
from protocol.rules.standing import Standing, aborted
from protocol.values.ids import CallId
from protocol.values.limits import ABORT_MS
from protocol.values.reasons import Refusal
from protocol.wire.envelope import open_envelope
from protocol.wire.job import QUICK, VICKREY, Resources
from protocol.wire.messages import (
    NO_ID,
    Award,
    BidCommit,
    BidRefusal,
    BidReveal,
    Call,
    Cancel,
    CommitSet,
    Outcome,
    SetCheck,
    Winner,
)
from tests.driven import POLICY, START_MS, Driven, signed_by
from tests.signed_auction import SignedAuction
from tests.strategies import SIGNERS

CALL = Call(
    bytes(16), VICKREY, START_MS, Resources(2), 9_000, 600_000, 1_200, 900, 6_000, 1, bytes(32), 0,
    reuse_ms=60_000,
)  # fmt: skip
REQUESTER = 1
PEERS = st.sampled_from([REQUESTER, REQUESTER, REQUESTER, 2])
CONTEXT = Context(START_MS, SIGNERS[0], POLICY)
OTHERS = st.lists(st.binary(min_size=32, max_size=32), max_size=8)


class BiddingMachine(Driven):
    """All that a bidder may hear, in any order, from anybody."""

    table = bidding.TRANSITIONS
    union = bidding.State
    written_first = ()  # Nothing of a bidding is written down: a lost bid is no harm.

    @initialize(profile=st.sampled_from([QUICK, VICKREY]))
    def hear_the_call(self, profile: int) -> None:
        self.call = signed_by(REQUESTER, replace(CALL, profile=profile))
        self.call_id = CallId(self.call.content_id)
        self.held_sets = [NO_ID] if profile == QUICK else []
        self.begin(*answer_call(self.call, POLICY.capacity, 0, self.context))

    @rule(who=PEERS, ours=st.booleans(), others=OTHERS)
    def set_is_closed(self, who: int, ours: bool, others: list[bytes]) -> None:
        own = [commit.commitment for commit in self.sent_of(BidCommit)]
        digests = tuple(sorted({*others, *(own if ours else [])}))
        if digests:
            closed = signed_by(who, CommitSet(self.call_id, digests))
            if who == REQUESTER and ours and own:
                self.held_sets.append(closed.content_id)
            self.take(closed)

    @rule(who=PEERS, author=PEERS, ours=st.booleans(), others=OTHERS)
    def set_is_shown(self, who: int, author: int, ours: bool, others: list[bytes]) -> None:
        own = [commit.commitment for commit in self.sent_of(BidCommit)]
        if digests := tuple(sorted({*others, *(own if ours else [])})):
            told = signed_by(author, CommitSet(self.call_id, digests)).envelope
            effects = self.take(signed_by(who, SetCheck(self.call_id, told)))
            assert not effects or (author == REQUESTER and self.over)

    @rule(who=PEERS, winner=st.sampled_from([0, 3, None]))
    def outcome_is_told(self, who: int, winner: int | None) -> None:
        won = () if winner is None else (Winner(SIGNERS[winner].peer_id, 1),)
        before = self.state
        set_id = self.held_sets[0] if self.held_sets else NO_ID
        effects = self.take(signed_by(who, Outcome(self.call_id, set_id, won, 1, (), 1)))
        assert all(isinstance(effect, Accuse) for effect in effects)
        if winner is not None and not effects:
            assert type(self.state) is type(before), "the award may still pass to us"

    @rule(who=PEERS)
    def is_called_off(self, who: int) -> None:
        before = self.state
        self.take(signed_by(who, Cancel(self.call_id)))
        if who == REQUESTER and not isinstance(before, StandingBy):
            assert isinstance(self.state, Over)
        else:
            assert self.state == before

    @invariant()
    def never_opens_its_bid_without_a_set_that_holds_it(self) -> None:
        for opened in self.sent_of(BidReveal):
            assert opened.commit_set in self.held_sets
        assert len(self.sent_of(BidReveal)) <= 1
        assert len(self.sent_of(BidCommit)) <= 1

    @invariant()
    def opens_what_it_committed_to_and_asks_its_floor(self) -> None:
        for opened in self.sent_of(BidReveal):
            assert opened.bid.ask == list_rate(POLICY.prices, CALL.resources)
            own = commitment_of(self.call_id, SIGNERS[0].peer_id, opened.bid, opened.nonce)
            assert all(commit.commitment == own for commit in self.sent_of(BidCommit))

    @invariant()
    def speaks_to_its_requester_only(self) -> None:
        """To others it shows a set, if it has accused the requester of two."""
        told = [(peer, message) for peer, message in self.sent if type(message) is not SetCheck]
        assert {peer for peer, _ in told} <= {SIGNERS[REQUESTER].peer_id}
        assert len(told) == len(self.sent) or self.over


TestBidding = BiddingMachine.TestCase
TestBidding.settings = settings(max_examples=60, stateful_step_count=20)


def bidder(profile: int) -> BiddingMachine:
    machine = BiddingMachine()
    machine.hear_the_call(profile)
    return machine


def test_the_undisturbed_way() -> None:
    machine = bidder(VICKREY)
    assert isinstance(machine.state, Committed)
    machine.set_is_closed(REQUESTER, ours=True, others=[])
    assert isinstance(machine.state, Revealed)
    assert [type(message) for _, message in machine.sent] == [BidCommit, BidReveal]
    machine.outcome_is_told(REQUESTER, 3)
    assert isinstance(machine.state, Revealed), "the award may still pass to us"


def test_a_bid_of_an_auction_without_a_winner_is_discarded() -> None:
    machine = bidder(QUICK)
    machine.outcome_is_told(2, None)
    assert isinstance(machine.state, Revealed), "another cannot say so"
    machine.outcome_is_told(REQUESTER, None)
    assert isinstance(machine.state, Over)


@pytest.mark.parametrize("profile", [QUICK, VICKREY], ids=["open", "closed"])
def test_a_bid_is_discarded_when_the_auction_is_cancelled_or_the_bid_expires(profile: int) -> None:
    called_off, in_silence = bidder(profile), bidder(profile)
    called_off.is_called_off(2)
    assert not called_off.over, "another cannot say so"
    called_off.is_called_off(REQUESTER)
    in_silence.deadline_is_reached(0)
    if profile == QUICK:
        assert isinstance(in_silence.state, StandingBy)
        assert in_silence.state.deadline_ms == in_silence.now_ms + CALL.reuse_ms
        in_silence.deadline_is_reached(0)
    assert called_off.over
    assert in_silence.over


@pytest.mark.parametrize(
    "left, rate_max, reason, free_ms",
    [
        (Capacity(1, 4_096, 50_000), 9_000, Refusal.BUSY, 1_000),
        (POLICY.capacity, 1_999, Refusal.PRICE, 0),
    ],
)
def test_who_could_serve_says_why_it_does_not(
    left: Capacity, rate_max: int, reason: Refusal, free_ms: int
) -> None:
    call = signed_by(REQUESTER, replace(CALL, rate_max=rate_max))
    state, (send,) = answer_call(call, left, 1_000, CONTEXT)
    said = SIGNERS[0].sign(BidRefusal(CallId(call.content_id), reason, free_ms))
    assert state == Over()
    assert (send.peer, send.envelope) == (SIGNERS[REQUESTER].peer_id, said.envelope)


@pytest.mark.parametrize(
    "who, ours, reveals", [(REQUESTER, True, True), (REQUESTER, False, False), (2, True, False)],
    ids=["as it should be", "our commitment is not in it", "another has signed it"],
)  # fmt: skip
def test_a_bid_is_opened_to_a_set_of_its_requester_that_holds_it_and_to_no_other(
    who: int, ours: bool, reveals: bool
) -> None:
    call = signed_by(REQUESTER, CALL)
    committed, (send,) = answer_call(call, POLICY.capacity, 0, CONTEXT)
    assert isinstance(committed, Committed)
    own = open_envelope(send.envelope, SIGNERS[0].network_id, SIGNERS[0].peer_id).message
    held = own.commitment if ours else bytes(32)
    closed = signed_by(who, CommitSet(CallId(call.content_id), (held, bytes([255]) * 32)))
    state, effects = bidding.reveal(committed, closed, CONTEXT)
    assert isinstance(state, Revealed) == reveals
    assert len(effects) == reveals


def test_only_its_requester_may_award_an_open_bid() -> None:
    call = signed_by(REQUESTER, replace(CALL, profile=QUICK))
    revealed, _ = answer_call(call, POLICY.capacity, 0, CONTEXT)
    assert isinstance(revealed, Revealed)
    bid = revealed.bid.reveal.content_id
    award = Award(CallId(call.content_id), b"outcome", 0, 0, 0, 2_000, 0, (), bid)
    committed = Committed(revealed.bidding, revealed.deadline_ms)
    standing_by = StandingBy(revealed.bidding, revealed.deadline_ms, revealed.bid)
    for state, expected in [
        (revealed, revealed), (standing_by, standing_by), (committed, None),
    ]:  # fmt: skip
        assert awardable(state, signed_by(REQUESTER, award)) == expected
        assert awardable(state, signed_by(2, award)) is None
    assert awardable(Over(), signed_by(REQUESTER, award)) is None


def test_the_same_call_gets_the_same_nonce_and_another_call_another() -> None:
    calls = [signed_by(REQUESTER, replace(CALL, nonce=bytes([n]) * 16)) for n in (0, 0, 1)]
    nonces = [answer_call(call, POLICY.capacity, 0, CONTEXT)[0].bidding.nonce for call in calls]
    assert nonces[0] == nonces[1] != nonces[2]


def test_a_bid_says_for_how_many_slots_there_is_capacity() -> None:
    call = signed_by(REQUESTER, replace(CALL, profile=QUICK))
    revealed, _ = answer_call(call, Capacity(7, 4_096, 50_000), 0, CONTEXT)
    assert isinstance(revealed, Revealed)
    assert revealed.bidding.bid.slots == 3


def test_a_bid_without_reuse_is_discarded_when_it_no_longer_binds() -> None:
    call = signed_by(REQUESTER, replace(CALL, profile=QUICK, reuse_ms=0))
    revealed, _ = answer_call(call, POLICY.capacity, 0, CONTEXT)
    assert isinstance(revealed, Revealed)
    assert bidding.stand_by(revealed, DeadlineReached(), CONTEXT) == (Over(), ())


# What a requester is accused of.


def opened(number: int = 2, *, until: type = Revealed) -> tuple[SignedAuction, Any]:
    """Return an auction of three, and the state of one of its bidders that has opened its bid."""
    auction = SignedAuction([(30, 1), (50, 1), (70, 1)])
    bid = auction.bid(number)
    nonce = bid.reveal.message.nonce
    held = bidding.Bidding(auction.call, bid.reveal.message.bid, nonce)
    return auction, until(held, START_MS + 1_000, bid)


def heard(state: Any, event: Any) -> tuple[Any, tuple[Any, ...]]:
    return step(bidding.TRANSITIONS, state, event, CONTEXT)


def accused(effects: tuple[Any, ...]) -> list[Fraud]:
    assert all(verify(effect.proof) == effect.finding for effect in effects)
    return [effect.finding.fraud for effect in effects]


@pytest.mark.parametrize("until", [Revealed, StandingBy])
def test_who_signs_two_sets_is_accused(until: type) -> None:
    auction, state = opened(until=until)
    assert auction.commit_set is not None
    assert heard(state, auction.commit_set) == (state, ())
    other = replace(auction.commit_set.message, weights=())
    for stranger in (1, 2):
        assert heard(state, signed_by(stranger, other)) == (state, ())
    following, effects = heard(state, auction.told(other))
    assert (following, accused(effects)) == (Over(), [Fraud.EQUIVOCATION])


@pytest.mark.parametrize("until", [Revealed, StandingBy])
def test_who_signs_two_outcomes_is_accused(until: type) -> None:
    auction, state = opened(until=until)
    state, effects = heard(state, auction.outcome)
    assert (state.outcome, effects) == (auction.outcome.envelope, ())
    assert heard(state, auction.outcome) == (state, ())
    other = replace(auction.outcome.message, clearing=69)
    assert heard(state, signed_by(2, other)) == (state, ())
    following, effects = heard(state, auction.told(other))
    assert (following, accused(effects)) == (Over(), [Fraud.EQUIVOCATION])


@pytest.mark.parametrize("winner", [None, 3])
def test_a_bid_that_wrongly_lost_accuses(winner: int | None) -> None:
    auction, state = opened(1)
    winners = () if winner is None else (Winner(SIGNERS[winner].peer_id, 1),)
    told = auction.told(replace(auction.outcome.message, winners=winners))
    following, effects = heard(state, told)
    assert accused(effects) == [Fraud.WRONGLY_LOST]
    assert following == Over()


def test_an_award_is_checked_against_the_rules_and_the_outcome_that_was_heard() -> None:
    auction, state = opened(1)
    (_, award), = auction.awards()  # fmt: skip
    following, effects = bidding.check_award(state, award, CONTEXT)
    assert following == replace(state, outcome=auction.outcome.envelope)
    assert effects == ()
    cheap = auction.told(replace(award.message, rate=49))
    following, effects = bidding.check_award(state, cheap, CONTEXT)
    assert (following, accused(effects)) == (None, [Fraud.WRONG_PRICE])
    other = auction.told(replace(auction.outcome.message, clearing=49)).envelope
    following, effects = bidding.check_award(replace(state, outcome=other), award, CONTEXT)
    assert (following, accused(effects)) == (None, [Fraud.EQUIVOCATION])


def test_a_wrong_award_that_proves_nothing_is_declined_without_an_accusation() -> None:
    """What a replacement displaces depends on failures that its bidder has not seen."""
    auction, state = opened(1)
    (_, award), = auction.awards()  # fmt: skip
    cheap = auction.told(replace(award.message, rate=49, offer=1))
    assert bidding.check_award(state, cheap, CONTEXT) == (None, ())


def test_a_bid_is_not_opened_to_a_set_that_repeats_a_commitment() -> None:
    call = signed_by(REQUESTER, CALL)
    committed, (send,) = answer_call(call, POLICY.capacity, 0, CONTEXT)
    assert isinstance(committed, Committed)
    own = open_envelope(send.envelope, SIGNERS[0].network_id, SIGNERS[0].peer_id).message
    closed = signed_by(REQUESTER, CommitSet(CallId(call.content_id), (own.commitment,) * 2))
    assert bidding.reveal(committed, closed, CONTEXT) == (committed, ())


def test_an_auction_is_aborted_if_it_has_no_outcome_after_the_bid_was_opened() -> None:
    auction, state = opened()
    requester = SIGNERS[0].peer_id
    cancel = Cancel(auction.call_id)
    told, _ = heard(state, auction.outcome)
    told_none = replace(auction.outcome.message, winners=(), opened=())
    committed = Committed(state.bidding, state.deadline_ms)
    for before, event, expected in [
        (state, DeadlineReached(), requester),
        (state, auction.told(cancel), requester),
        (state, signed_by(2, cancel), None),
        (state, auction.outcome, None),
        (state, auction.told(replace(told_none, opened=(state.bid.position,))), None),
        (state, auction.told(told_none), requester),
        (state, signed_by(2, told_none), None),
        (told, DeadlineReached(), None),
        (told, auction.told(cancel), None),
        (committed, DeadlineReached(), None),
        (committed, auction.told(cancel), None),
        (bidder(QUICK).state, DeadlineReached(), None),
        (StandingBy(state.bidding, 0, state.bid), DeadlineReached(), None),
    ]:
        assert bidding.aborted_by(before, event) == expected


# The ask.


def asked(left: Capacity, **more: int) -> int:
    """Return the ask of a provider with a private floor of 60 % and this capacity left."""
    called = signed_by(REQUESTER, replace(CALL, profile=QUICK, **more))
    private = replace(CONTEXT, policy=replace(POLICY, floor_percent=60))
    state, _ = answer_call(called, left, 0, private)
    assert isinstance(state, Revealed)
    return state.bidding.bid.ask


def test_a_list_price_above_the_cap_keeps_nobody_from_bidding() -> None:
    assert asked(POLICY.capacity, rate_max=1_999) == 1_200, "the list price is 2,000"


def test_who_aborted_an_auction_is_asked_for_more_up_to_the_list_price() -> None:
    policy = replace(POLICY, floor_percent=60)
    suspect = aborted(Standing(), START_MS)
    context = replace(CONTEXT, policy=policy, standing_of=lambda _: suspect)
    called = signed_by(REQUESTER, replace(CALL, profile=QUICK))
    asks = [
        answer_call(called, POLICY.capacity, 0, replace(context, now_ms=START_MS + ms))[0]
        .bidding.bid.ask
        for ms in (0, ABORT_MS)
    ]  # fmt: skip
    assert asks == [1_320, 1_200]
    full = replace(context, policy=POLICY)
    assert answer_call(called, POLICY.capacity, 0, full)[0].bidding.bid.ask == 2_000


def test_the_ask_rises_with_the_share_of_capacity_in_use() -> None:
    left = [replace(POLICY.capacity, cpus=cpus) for cpus in (4, 3, 2)]
    assert [asked(each) for each in left] == [1_200, 1_400, 1_600]
