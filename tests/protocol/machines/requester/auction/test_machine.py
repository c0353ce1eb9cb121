"""A requester among bidders on a network that keeps no promise.

Spec: specs/auction.md.
"""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from protocol.core.jobs import Job, call_for, class_of
from protocol.machines.context import Context
from protocol.machines.effects import Publish, Report
from protocol.machines.events import BidsOpened
from protocol.machines.inputs import JobCancelled
from protocol.machines.requester import auction
from protocol.rules.commitment import commitment_of
from protocol.values.ids import CallId, JobId, PeerId
from protocol.values.limits import ACCEPT_MS, BIDS_MAX, FALLBACKS_MAX, HOLD_MS, REUSE_MS
from protocol.values.reasons import Failure
from protocol.wire.job import QUICK, VICKREY
from protocol.wire.messages import (
    NO_ID,
    Bid,
    BidCommit,
    BidRefusal,
    BidReveal,
    Cancel,
    CommitSet,
)
from tests.driven import Driven, signed_by
from tests.simulated_network import job_spec
from tests.strategies import SIGNERS

BIDDERS = st.integers(0, 6)
ASKS = st.integers(0, 120)
AVOIDED = 6
RATE_MAX = 100
NONCE = bytes(32)


def bid(ask: int, slots: int = 1) -> Bid:
    return Bid(ask, "embedded", 1, 10_000, 35_000, 0, slots)


def auction_of(
    job: Job, slots: int, expected: tuple[PeerId, ...], context: Context
) -> auction.Auction:
    """Return an auction as the core opens it."""
    call = call_for(class_of(job), slots, job.spec.terms.rate_max, 0, context)
    signed = context.signer.sign(call)
    call_id = CallId(signed.content_id)
    return auction.Auction(
        job.job_id, job.spec, call_id, call, signed.envelope, expected, job.avoid
    )


class AuctionMachine(Driven):
    """All that a requester may hear, in any order, from anybody."""

    table = auction.TRANSITIONS
    union = auction.State
    written_first = ()  # Nothing of an auction is saved: it binds nobody.

    @initialize(
        profile=st.sampled_from([QUICK, VICKREY, VICKREY]), expected=st.integers(0, 7),
        shift_cap=st.integers(0, 1), ahead=st.integers(0, 2), slots=st.integers(1, 4),
    )  # fmt: skip
    def open(self, profile: int, expected: int, shift_cap: int, ahead: int, slots: int = 1) -> None:
        spec = job_spec(rate_max=RATE_MAX, profile=profile)
        job = Job(JobId(bytes(16)), spec, self.now_ms, avoid=(SIGNERS[AVOIDED].peer_id,))
        peers = tuple(signer.peer_id for signer in SIGNERS[1 : 1 + expected])
        self.called = auction_of(job, slots, peers, self.context)
        self.called = replace(self.called, call=replace(self.called.call, shift_cap=shift_cap))
        self.bids: dict[int, Bid] = {}
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

    # Bidding.

    @rule(who=BIDDERS, ask=ASKS, slots=st.integers(1, 3))
    def commits(self, who: int, ask: int, slots: int = 1) -> None:
        own = self.bids.setdefault(who, bid(ask, slots))
        digest = commitment_of(self.called.call_id, SIGNERS[who].peer_id, own, NONCE)
        self.take(signed_by(who, BidCommit(self.called.call_id, digest)))

    @rule(who=BIDDERS, ask=ASKS, honest=st.booleans())
    def reveals(self, who: int, ask: int, honest: bool) -> None:
        opened = self.bids.setdefault(who, bid(ask)) if honest else bid(ask)
        commit_set = getattr(self.state, "commit_set", NO_ID)
        self.take(signed_by(who, BidReveal(self.called.call_id, commit_set, opened, NONCE)))

    @rule(who=BIDDERS)
    def reveals_for_another_set(self, who: int) -> None:
        other = BidReveal(self.called.call_id, bytes([1]) * 32, bid(0), NONCE)
        self.take(signed_by(who, other))

    @rule(who=BIDDERS)
    def refuses(self, who: int) -> None:
        self.take(signed_by(who, BidRefusal(self.called.call_id, 1)))

    @rule()
    def user_cancels(self) -> None:
        before = self.state
        self.take(JobCancelled(self.called.job_id))
        if isinstance(before, auction.Decided):
            assert self.state is before, "its slots may carry other jobs"
        else:
            assert self.over

    @precondition(lambda self: isinstance(self.state, auction.Decided))
    @rule(data=st.data())
    def a_slot_fails(self, data: st.DataObject) -> None:
        """A provider does not take its slot: the next bid does, if one is left."""
        failed = data.draw(st.sampled_from(self.state.sold)).provider
        self.state, slot = auction.replacement(self.state, failed, self.context)
        assert self.state.failed[-1] == failed
        if slot is not None:
            assert slot == self.state.sold[-1]
            assert slot.provider not in self.state.failed

    # What always holds.

    @invariant()
    def no_price_is_above_the_ceiling_or_below_the_ask(self) -> None:
        asks = {SIGNERS[who].peer_id: own.ask for who, own in self.bids.items()}
        for slot in getattr(self.state, "sold", ()):
            assert slot.ask <= slot.price.rate <= RATE_MAX
            if self.called.call.profile == VICKREY:
                assert slot.ask == asks[slot.provider]

    @invariant()
    def sells_no_more_than_it_called_for_or_was_offered(self) -> None:
        sold = Counter(slot.provider for slot in getattr(self.state, "sold", ()))
        if isinstance(self.state, auction.Decided):
            offered = {offer.peer: offer.bid.slots for offer in self.state.offers}
            assert sold.total() <= self.called.call.slots + len(self.state.failed)
            assert all(offered[peer] >= slots for peer, slots in sold.items())
            assert len(self.state.failed) <= FALLBACKS_MAX + 30

    @invariant()
    def sells_nothing_to_ourselves_or_the_avoided(self) -> None:
        unwelcome = {SIGNERS[0].peer_id, SIGNERS[AVOIDED].peer_id}
        assert not unwelcome & {slot.provider for slot in getattr(self.state, "sold", ())}

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
            last: list[PeerId] = [p for p, m in self.sent if isinstance(m, Cancel)]
            assert len(last) <= len(SIGNERS)


TestAuction = AuctionMachine.TestCase
TestAuction.settings = settings(max_examples=120, stateful_step_count=30)


# The same machine, step by step.


def after(steps: int, profile: int = VICKREY) -> AuctionMachine:
    machine = AuctionMachine()
    machine.open(profile=profile, expected=7, shift_cap=1, ahead=steps)
    return machine


def test_the_undisturbed_way() -> None:
    way = [auction.Calling, auction.Opening, auction.Decided]
    assert [type(after(steps).state) for steps in range(3)] == way
    machine = after(2)
    (slot,) = machine.state.sold
    assert (slot.provider, slot.price.rate) == (SIGNERS[1].peer_id, 20)
    assert slot.voucher_ms == bid(0).voucher_ms
    machine.deadline_is_reached(0)
    assert isinstance(machine.state, auction.Lapsed)


def test_bids_may_be_awarded_for_a_while() -> None:
    machine = after(2)
    decided = machine.state
    assert decided.deadline_ms == machine.now_ms + REUSE_MS
    assert decided.held_until_ms == machine.now_ms + HOLD_MS - ACCEPT_MS


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


def test_a_user_may_cancel_until_the_decision() -> None:
    for steps in range(3):
        machine = after(steps)
        machine.user_cancels()
        told = {peer for peer, message in machine.sent if isinstance(message, Cancel)}
        assert len(told) == (3 if steps == 1 else 0)


def test_who_does_not_open_its_bid_in_time_is_not_waited_for() -> None:
    silent, partly, quick = after(1), after(1), after(0, QUICK)
    partly.reveals(1, 10, honest=True)
    quick.reveals(1, 10, honest=True)
    for machine in (silent, partly, quick):
        assert isinstance(machine.state, auction.Opening)
        machine.deadline_is_reached(0)
    assert silent.state.why == "none of 3 bidders opened its bid"
    for machine in (partly, quick):
        assert [slot.provider for slot in machine.state.sold] == [SIGNERS[1].peer_id]


def test_a_quick_auction_does_not_wait_for_providers_that_refused() -> None:
    machine = AuctionMachine()
    machine.open(profile=QUICK, expected=2, shift_cap=0, ahead=0)
    machine.reveals(1, 10, honest=True)
    assert isinstance(machine.state, auction.Opening)
    machine.refuses(2)
    assert [slot.provider for slot in machine.state.sold] == [SIGNERS[1].peer_id]
    (told,) = (e.event for e in machine.effects if isinstance(getattr(e, "event", 0), BidsOpened))
    assert told.refusals == ((SIGNERS[2].peer_id, 1),)


def test_without_answers_it_calls_once_more() -> None:
    machine = after(0)
    machine.deadline_is_reached(0)
    assert isinstance(machine.state, auction.Calling)
    machine.deadline_is_reached(0)
    assert isinstance(machine.state, auction.Lost)
    assert len([effect for effect in machine.effects if isinstance(effect, Publish)]) == 2


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
