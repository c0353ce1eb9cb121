"""Deciding an auction: which slots are sold, at which prices, and what replaces them.

Spec: specs/auction.md#deciding.
"""

from dataclasses import replace
from typing import Any

import pytest

from protocol.core.jobs import Job
from protocol.machines.context import Context
from protocol.machines.effects import Report, Send
from protocol.machines.events import BidsOpened
from protocol.machines.requester.auction import Decided, Lost, Opening
from protocol.machines.requester.auction.deciding import (
    call_off,
    decide,
    replacement,
    supply_of,
)
from protocol.machines.requester.auction.states import Commitment, Refused
from protocol.rules.commitment import commitment_of
from protocol.rules.selection import Offer
from protocol.rules.standing import Standing
from protocol.values.ids import ContentId, JobId, PeerId
from protocol.values.limits import ACCEPT_MS, FALLBACKS_MAX, HOLD_MS
from protocol.values.reasons import Failure
from protocol.wire.envelope import open_envelope
from protocol.wire.messages import Bid, BidReveal, Outcome, Winner
from tests.driven import POLICY, START_MS
from tests.protocol.machines.requester.auction.test_machine import auction_of
from tests.simulated_network import job_spec
from tests.strategies import SIGNERS

CONTEXT = Context(START_MS, SIGNERS[0], POLICY)
JOB = Job(JobId(bytes(16)), job_spec(rate_max=100), START_MS)
AUCTION = auction_of(JOB, 1, (), CONTEXT)
SET = ContentId(bytes([5]) * 32)
BEN, CLEO, DAN = SIGNERS[1:4]


def opening(*asks: int, unopened: int = 0, shift_cap: int = 0) -> Opening:
    """Return the state in which the first bidders have opened their bids, and others have not."""
    auction = replace(AUCTION, call=replace(AUCTION.call, shift_cap=shift_cap))
    offers, commitments = [], []
    for number in range(len(asks) + unopened):
        signer = SIGNERS[number + 1]
        bid = Bid(asks[number] if number < len(asks) else 1, "embedded", 1, 10_000, 35_000, 0)
        digest = commitment_of(AUCTION.call_id, signer.peer_id, bid, bytes(32))
        commitments.append(Commitment(signer.peer_id, digest))
        if number < len(asks):
            reveal = signer.sign(BidReveal(AUCTION.call_id, SET, bid, bytes(32)))
            offers.append(Offer(signer.peer_id, bid, reveal.envelope))
    return Opening(auction, START_MS, SET, tuple(commitments), (), tuple(offers))


def said(effects: tuple[Any, ...], kind: type) -> list[tuple[str, Any]]:
    """Return to whom what was said."""
    opened = [
        (effect.peer, open_envelope(effect.envelope, SIGNERS[0].network_id, effect.peer).message)
        for effect in effects if isinstance(effect, Send)
    ]  # fmt: skip
    return [(peer, message) for peer, message in opened if isinstance(message, kind)]


def decided(*asks: int, context: Context = CONTEXT, **more: int) -> Decided:
    state, _ = decide(opening(*asks, **more), context)
    assert isinstance(state, Decided)
    return state


def test_the_cheapest_wins_at_the_second_price_and_all_are_told() -> None:
    state, effects = decide(opening(50, 30, 70), CONTEXT)
    assert isinstance(state, Decided)
    (slot,) = state.sold
    assert (slot.provider, slot.price.rate, slot.shift, slot.passed) == (CLEO.peer_id, 50, 0, 0)
    assert slot.price.evidence[0] == opening(50).offers[0].reveal
    outcomes = said(effects, Outcome)
    assert {peer for peer, _ in outcomes} == {BEN.peer_id, CLEO.peer_id, DAN.peer_id}
    assert {
        (told.winners, told.clearing, told.opened, told.losing_score) for _, told in outcomes
    } == {((Winner(CLEO.peer_id, 1),), 50, (0, 1, 2), 50)}


def test_the_user_hears_of_the_bids() -> None:
    state, effects = decide(opening(50, 101), CONTEXT)
    (bids,) = [effect.event for effect in effects if isinstance(effect, Report)]
    assert isinstance(bids, BidsOpened)
    assert [(seen.bid.ask, seen.eligible) for seen in bids.bids] == [(50, True), (101, False)]
    assert isinstance(state, Decided)
    assert [(s.price.rate, s.ask, s.runner_up) for s in state.sold] == [(100, 50, 100)]


def test_several_slots_are_sold_to_the_cheapest() -> None:
    state = opening(50, 30, 70)
    several = replace(state.auction, call=replace(state.auction.call, slots=2))
    following, effects = decide(replace(state, auction=several), CONTEXT)
    assert isinstance(following, Decided)
    assert [(s.provider, s.price.rate) for s in following.sold] == [
        (CLEO.peer_id, 70), (BEN.peer_id, 70),
    ]  # fmt: skip
    assert said(effects, Outcome)[0][1].clearing == 70
    assert supply_of(following) == 3


@pytest.mark.parametrize("shift_cap, rate", [(0, 50), (1, 70), (2, 100)])
def test_unopened_commitments_move_the_price_up_by_so_many_places(
    shift_cap: int, rate: int
) -> None:
    (slot,) = decided(30, 50, 70, unopened=3, shift_cap=shift_cap).sold
    assert (slot.price.rate, slot.shift) == (rate, shift_cap)


def test_our_own_calls_let_nobody_move_the_price() -> None:
    assert AUCTION.call.shift_cap == 0


@pytest.mark.parametrize("shift_cap, rate", [(0, 70), (1, 100)])
def test_the_next_is_paid_by_those_who_are_left(shift_cap: int, rate: int) -> None:
    first = decided(30, 50, 70, shift_cap=shift_cap)
    second, slot = replacement(first, BEN.peer_id, CONTEXT)
    assert slot is not None
    assert (slot.provider, slot.price.rate, slot.passed) == (CLEO.peer_id, rate, 1)
    third, slot = replacement(second, CLEO.peer_id, CONTEXT)
    assert slot is not None
    assert slot.provider == DAN.peer_id
    last, nothing = replacement(third, DAN.peer_id, CONTEXT)
    assert nothing is None
    assert last.failed == (BEN.peer_id, CLEO.peer_id, DAN.peer_id)


def test_after_a_failure_settled_peers_come_first_and_are_paid_at_least_their_ask() -> None:
    served = replace(CONTEXT, standing_of=lambda peer: Standing(settled=peer == DAN.peer_id))
    first = decided(30, 50, 70, 80, context=served)
    (slot,) = first.sold
    assert (slot.provider, slot.price.rate) == (BEN.peer_id, 50), "it goes by price alone"
    second, following = replacement(first, BEN.peer_id, served)
    assert following is not None
    assert (following.provider, following.price.rate) == (DAN.peer_id, 80)
    _, last = replacement(second, DAN.peer_id, served)
    assert last is not None
    assert (last.provider, last.price.rate) == (CLEO.peer_id, 80)


def test_a_bid_that_no_longer_binds_may_still_be_awarded() -> None:
    first = decided(30, 50)
    on_time = replace(CONTEXT, now_ms=first.held_until_ms)
    late = replace(CONTEXT, now_ms=first.held_until_ms + 1)
    for context, binding in ((on_time, True), (late, False)):
        _, slot = replacement(first, BEN.peer_id, context)
        assert slot is not None
        assert slot.binding is binding


def test_a_bid_binds_long_enough_for_every_fallback() -> None:
    assert HOLD_MS - ACCEPT_MS >= (FALLBACKS_MAX - 1) * ACCEPT_MS


def test_fallbacks_are_bounded() -> None:
    worn = replace(decided(1, 2, 3), failed=(PeerId("x"),) * (FALLBACKS_MAX - 1))
    assert replacement(worn, BEN.peer_id, CONTEXT)[1] is None


def test_nobody_below_the_ceiling_is_no_match() -> None:
    lost, effects = decide(opening(101, 102), CONTEXT)
    assert isinstance(lost, Lost)
    assert lost.reason is Failure.NO_MATCH
    assert lost.why == "all 2 bids ask more than the job's maximum price"
    assert (
        decide(opening(101), CONTEXT)[0].why
        == "the only bid asks more than the job's maximum price"
    )
    assert [told.winners for _, told in said(effects, Outcome)] == [(), ()]


def test_nobody_opened_is_worth_another_attempt_without_them() -> None:
    lost, _ = decide(opening(unopened=2), CONTEXT)
    assert isinstance(lost, Lost)
    assert lost.reason is Failure.EXHAUSTED
    assert lost.why == "none of 2 bidders opened its bid"


def test_nobody_bid_is_no_bids() -> None:
    refused = (Refused(BEN.peer_id, 1), Refused(CLEO.peer_id, 1))
    lost, _ = decide(replace(opening(), refused=refused), CONTEXT)
    assert isinstance(lost, Lost)
    assert lost.reason is Failure.NO_BIDS
    assert lost.refused == refused
    assert lost.why.endswith("2 refused: busy with other jobs")


def test_a_cancelled_auction_notifies_each_bidder_once() -> None:
    lost, effects = call_off(AUCTION, [BEN.peer_id, CLEO.peer_id], CONTEXT)
    assert isinstance(lost, Lost)
    assert lost.reason is Failure.CANCELLED
    assert [effect.peer for effect in effects if isinstance(effect, Send)] == [
        BEN.peer_id, CLEO.peer_id,
    ]  # fmt: skip
