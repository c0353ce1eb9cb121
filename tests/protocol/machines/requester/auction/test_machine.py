"""A requester among bidders on a network that keeps no promise.

Spec: specs/auction.md.
"""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from protocol.core.jobs import Job, auction_for
from protocol.machines.effects import Publish, Report
from protocol.machines.events import Awarded, BidsOpened
from protocol.machines.inputs import JobCancelled
from protocol.machines.requester import auction
from protocol.rules.commitment import commitment_of
from protocol.values.ids import JobId, PeerId
from protocol.values.limits import ACCEPT_MS, ACTIVE_MS, BIDS_MAX, FALLBACKS_MAX
from protocol.values.reasons import Failure
from protocol.wire.job import QUICK, VICKREY
from protocol.wire.messages import (
    NO_ID,
    Award,
    AwardAccept,
    AwardDecline,
    Bid,
    BidCommit,
    BidRefusal,
    BidReveal,
    Cancel,
    CommitSet,
    LeaseActive,
    LeaseConfirm,
    LeaseRelease,
)
from tests.driven import Driven, signed_by
from tests.simulated_network import job_spec
from tests.strategies import SIGNERS

BIDDERS = st.integers(0, 6)
ASKS = st.integers(0, 120)
AVOIDED = 6
RATE_MAX = 100
NONCE = bytes(32)


def bid(ask: int) -> Bid:
    return Bid(ask, "embedded", 1, 10_000, 35_000, 0)


class AuctionMachine(Driven):
    """All that a requester may hear, in any order, from anybody."""

    table = auction.TRANSITIONS
    union = auction.State
    written_first = (Award, LeaseConfirm)

    @initialize(
        profile=st.sampled_from([QUICK, VICKREY, VICKREY]), expected=st.integers(0, 7),
        shift_cap=st.integers(0, 1), ahead=st.integers(0, 3),
    )  # fmt: skip
    def open(self, profile: int, expected: int, shift_cap: int, ahead: int) -> None:
        spec = job_spec(rate_max=RATE_MAX, profile=profile)
        job = Job(JobId(bytes(16)), spec, self.now_ms, avoid=(SIGNERS[AVOIDED].peer_id,))
        peers = tuple(signer.peer_id for signer in SIGNERS[1 : 1 + expected])
        called = auction_for(job, peers, self.context)
        self.called = replace(called, call=replace(called.call, shift_cap=shift_cap))
        self.asks: dict[int, int] = {}
        self.open_awards: set[bytes] = set()
        self.begin(*auction.open_auction(self.called, self.context))
        self.go_ahead(ahead)

    def go_ahead(self, steps: int) -> None:
        """Go some of the way that an undisturbed auction takes, so that all of it is explored."""
        for who in (1, 2, 3) if steps else ():
            self.commits(who, 10 * who)
        if steps and isinstance(self.state, auction.Calling):
            self.deadline_is_reached(0)
        for who in (1, 2, 3) if steps > 1 else ():
            self.reveals(who, 10 * who, honest=True)
        if steps > 1 and isinstance(self.state, auction.Opening):
            self.deadline_is_reached(0)
        if steps > 2:
            self.accepts(honest=True, award=True)

    def take(self, event: Any) -> tuple[Any, ...]:
        effects = super().take(event)
        for effect in effects:
            if hasattr(effect, "envelope") and not isinstance(effect, Publish):
                self.note(self.message_of(effect))
        return effects

    def note(self, message: object) -> None:
        """Keep account of the awards that somebody may still act upon."""
        match message:
            case LeaseRelease(lease_id):
                self.open_awards.discard(lease_id)
            case Award():
                awarding = self.state
                self.open_awards.add(awarding.lease_id)

    # Bidding.

    @rule(who=BIDDERS, ask=ASKS)
    def commits(self, who: int, ask: int) -> None:
        self.asks.setdefault(who, ask)
        digest = commitment_of(
            self.called.call_id, SIGNERS[who].peer_id, bid(self.asks[who]), NONCE
        )
        self.take(signed_by(who, BidCommit(self.called.call_id, digest)))

    @rule(who=BIDDERS, ask=ASKS, honest=st.booleans())
    def reveals(self, who: int, ask: int, honest: bool) -> None:
        opened = bid(self.asks.setdefault(who, ask) if honest else ask)
        commit_set = getattr(self.state, "commit_set", NO_ID)
        self.take(signed_by(who, BidReveal(self.called.call_id, commit_set, opened, NONCE)))

    @rule(who=BIDDERS)
    def reveals_for_another_set(self, who: int) -> None:
        other = BidReveal(self.called.call_id, bytes([1]) * 32, bid(0), NONCE)
        self.take(signed_by(who, other))

    @rule(who=BIDDERS)
    def refuses(self, who: int) -> None:
        self.take(signed_by(who, BidRefusal(self.called.call_id, 1)))

    # Answers to an award: of the winner or of another, to this award or to another.

    def winner_or(self, honest: bool) -> int:
        awarding = getattr(self.state, "awarding", self.state)
        if honest and isinstance(awarding, auction.Awarding):
            return [signer.peer_id for signer in SIGNERS].index(awarding.winner)
        return 7

    @precondition(lambda self: isinstance(self.state, auction.Awarding))
    @rule(honest=st.booleans(), award=st.booleans())
    def accepts(self, honest: bool, award: bool) -> None:
        state = self.state
        accept = AwardAccept(state.lease_id, state.award if award else bytes(32))
        self.take(signed_by(self.winner_or(honest), accept))
        assert isinstance(self.state, auction.Confirming) == (honest and award)

    @precondition(lambda self: isinstance(self.state, auction.Awarding))
    @rule(honest=st.booleans(), award=st.booleans())
    def declines(self, honest: bool, award: bool) -> None:
        state = self.state
        decline = AwardDecline(state.lease_id, state.award if award else bytes(32), 1)
        if honest and award:
            self.open_awards.discard(state.lease_id)
        self.take(signed_by(self.winner_or(honest), decline))
        assert (self.state != state) == (honest and award)

    @precondition(lambda self: isinstance(self.state, auction.Confirming))
    @rule(honest=st.booleans(), contract=st.booleans())
    def activates(self, honest: bool, contract: bool) -> None:
        state = self.state
        lease_id = state.awarding.lease_id
        active = LeaseActive(lease_id, state.contract if contract else bytes(32))
        self.take(signed_by(self.winner_or(honest), active))
        assert isinstance(self.state, auction.Won) == (honest and contract)

    @precondition(lambda self: isinstance(self.state, auction.Confirming))
    @rule(honest=st.booleans())
    def releases(self, honest: bool) -> None:
        state = self.state
        if honest:
            self.open_awards.discard(state.awarding.lease_id)
        released = LeaseRelease(state.awarding.lease_id, 7)
        self.take(signed_by(self.winner_or(honest), released))
        assert (self.state != state) == honest

    @rule()
    def user_cancels(self) -> None:
        was_over = self.over
        self.take(JobCancelled(self.called.job_id))
        assert self.over
        assert was_over or self.state.reason == "cancelled"

    # What always holds.

    @invariant()
    def never_awards_above_the_ceiling_or_below_the_ask(self) -> None:
        asks = {signer.peer_id: self.asks.get(n) for n, signer in enumerate(SIGNERS)}
        for effect in self.effects:
            if isinstance(effect, Report) and isinstance(effect.event, Awarded):
                assert effect.event.ask <= effect.event.rate <= RATE_MAX
                if self.called.call.profile == VICKREY:
                    assert effect.event.ask == asks[effect.event.provider]

    @invariant()
    def never_has_two_awards_open(self) -> None:
        if self.state is None:
            return
        holding = isinstance(self.state, auction.Awarding | auction.Confirming | auction.Won)
        assert len(self.open_awards) == (1 if holding else 0)

    @invariant()
    def never_awards_to_ourselves_or_the_avoided(self) -> None:
        unwelcome = {SIGNERS[0].peer_id, SIGNERS[AVOIDED].peer_id}
        assert not unwelcome & {peer for peer, message in self.sent if isinstance(message, Award)}

    @invariant()
    def never_awards_twice_to_one(self) -> None:
        winners = [peer for peer, message in self.sent if isinstance(message, Award)]
        assert len(set(winners)) == len(winners) <= FALLBACKS_MAX

    @invariant()
    def closes_one_set_before_it_sees_any_bid(self) -> None:
        sets = {message.commitments for message in self.sent_of(CommitSet)}
        assert len(sets) <= 1
        for digests in sets:
            assert list(digests) == sorted(set(digests))
            assert len(digests) <= BIDS_MAX

    @invariant()
    def opens_bids_once(self) -> None:
        told = [effect for effect in self.effects if isinstance(effect, Report)
                and isinstance(effect.event, BidsOpened)]  # fmt: skip
        assert len(told) <= 1
        if told:
            opened = [seen.peer for seen in told[0].event.bids]
            assert len(set(opened)) == len(opened)

    @invariant()
    def is_quiet_when_it_is_lost(self) -> None:
        if isinstance(self.state, auction.Lost):
            # Why nobody bids the core says, which knows who is there.
            assert self.state.why or self.state.reason is Failure.NO_BIDS
            last: list[PeerId] = [p for p, m in self.sent if isinstance(m, Award | Cancel)]
            assert len(last) <= FALLBACKS_MAX + len(SIGNERS)


TestAuction = AuctionMachine.TestCase
TestAuction.settings = settings(max_examples=120, stateful_step_count=30)


# The same machine, step by step.


def after(steps: int, profile: int = VICKREY) -> AuctionMachine:
    machine = AuctionMachine()
    machine.open(profile=profile, expected=7, shift_cap=1, ahead=steps)
    return machine


def test_the_undisturbed_way() -> None:
    way = [auction.Calling, auction.Opening, auction.Awarding, auction.Confirming]
    assert [type(after(steps).state) for steps in range(4)] == way
    machine = after(3)
    machine.activates(honest=True, contract=True)
    assert isinstance(machine.state, auction.Won)
    assert (machine.state.provider, machine.state.rate) == (SIGNERS[1].peer_id, 20)
    assert machine.state.voucher_ms == bid(0).voucher_ms


def test_only_the_winner_answers_and_only_this_award() -> None:
    for honest, right in ((False, True), (True, False)):
        machine = after(2)
        machine.accepts(honest, right)
        machine.declines(honest, right)
        assert isinstance(machine.state, auction.Awarding)
        machine = after(3)
        machine.activates(honest, right)
        assert isinstance(machine.state, auction.Confirming)
    machine.releases(honest=False)
    assert isinstance(machine.state, auction.Confirming)


def test_the_award_passes_on_when_the_winner_declines_falls_silent_or_gives_up() -> None:
    declined, silent, released, dead = after(2), after(2), after(3), after(3)
    declined.declines(honest=True, award=True)
    silent.deadline_is_reached(0)
    released.releases(honest=True)
    dead.deadline_is_reached(0)
    for machine, fences in ((declined, 0), (silent, 1), (released, 0), (dead, 1)):
        assert machine.state.winner == SIGNERS[2].peer_id
        assert len(machine.sent_of(LeaseRelease)) == fences
        machine.never_has_two_awards_open()


def test_a_bid_that_opens_no_commitment_is_not_taken() -> None:
    machine = after(1)
    machine.reveals(1, 5, honest=False)
    machine.reveals(4, 5, honest=True)
    machine.reveals_for_another_set(2)
    assert machine.state.offers == ()


def test_bids_of_avoided_peers_and_of_ourselves_are_ignored() -> None:
    machine = after(0)
    for who in (0, AVOIDED):
        machine.commits(who, 1)
    assert machine.state.commitments == ()
    quick = after(0, QUICK)
    for who in (0, AVOIDED):
        quick.reveals(who, 1, honest=True)
    assert quick.state.offers == ()


def test_a_user_may_cancel_at_any_time() -> None:
    for steps in range(4):
        machine = after(steps)
        machine.user_cancels()
        machine.never_has_two_awards_open()
        told = {peer for peer, message in machine.sent if isinstance(message, Cancel)}
        assert len(told) == (3 if steps == 1 else 0)
        assert len(machine.sent_of(LeaseRelease)) == (steps > 1)


def test_who_does_not_open_its_bid_in_time_is_not_waited_for() -> None:
    silent, partly, quick = after(1), after(1), after(0, QUICK)
    partly.reveals(1, 10, honest=True)
    quick.reveals(1, 10, honest=True)
    for machine in (silent, partly, quick):
        assert isinstance(machine.state, auction.Opening)
        machine.deadline_is_reached(0)
    assert silent.state.why == "none of 3 bidders opened its bid"
    assert partly.state.winner == quick.state.winner == SIGNERS[1].peer_id


def test_a_quick_auction_does_not_wait_for_providers_that_refused() -> None:
    machine = AuctionMachine()
    machine.open(profile=QUICK, expected=2, shift_cap=0, ahead=0)
    machine.reveals(1, 10, honest=True)
    assert isinstance(machine.state, auction.Opening)
    machine.refuses(2)
    assert machine.state.winner == SIGNERS[1].peer_id
    (told,) = (e.event for e in machine.effects if isinstance(getattr(e, "event", 0), BidsOpened))
    assert told.refusals == ((SIGNERS[2].peer_id, 1),)


def test_without_answers_it_calls_once_more() -> None:
    machine = after(0)
    machine.deadline_is_reached(0)
    assert isinstance(machine.state, auction.Calling)
    machine.deadline_is_reached(0)
    assert isinstance(machine.state, auction.Lost)
    assert len([effect for effect in machine.effects if isinstance(effect, Publish)]) == 2


def test_a_decided_auction_waits_no_longer_for_a_clock_that_was_set_back() -> None:
    for steps, longest_ms in ((2, ACCEPT_MS), (3, ACTIVE_MS)):
        machine = after(steps)
        back = replace(machine.context, now_ms=machine.now_ms - 3_600_000)
        assert auction.resume(machine.state, back).deadline_ms == back.now_ms + longest_ms
        assert auction.resume(machine.state, machine.context) == machine.state


def test_it_waits_for_expected_peers_and_not_for_strangers() -> None:
    machine = AuctionMachine()
    machine.open(profile=VICKREY, expected=2, shift_cap=1, ahead=0)
    for who in (4, 5, 1):
        machine.refuses(who)
        assert isinstance(machine.state, auction.Calling), "a stranger's refusal closes nothing"
    machine.commits(2, 10)
    assert isinstance(machine.state, auction.Opening)


def test_refusals_of_strangers_are_bounded_and_keep_out_nobody_who_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("protocol.machines.requester.auction.machine.BIDS_MAX", 2)
    machine = AuctionMachine()
    machine.open(profile=VICKREY, expected=2, shift_cap=1, ahead=0)
    for who in (4, 5, 6, 1, 1):
        machine.refuses(who)
    refused = [item.peer for item in machine.state.refused]
    assert refused == [SIGNERS[who].peer_id for who in (4, 5, 1)]
