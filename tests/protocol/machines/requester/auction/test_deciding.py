"""Deciding an auction: the story of one, told effect by effect.

Spec: specs/auction.md#deciding.
"""

from dataclasses import replace
from typing import Any

from protocol.core.jobs import Job, auction_for
from protocol.machines.context import Context
from protocol.machines.effects import Report, Save, Send
from protocol.machines.events import Awarded, BidsOpened
from protocol.machines.requester.auction import Awarding, Lost, Opening
from protocol.machines.requester.auction.deciding import (
    award_next,
    call_off,
    decide,
    fence,
    no_bids,
)
from protocol.machines.requester.auction.states import Commitment, Refused
from protocol.rules.commitment import commitment_of
from protocol.rules.selection import Offer
from protocol.rules.standing import Standing
from protocol.values.ids import ContentId, JobId, lease_id_of
from protocol.values.limits import ACCEPT_MS, FALLBACKS_MAX, HOLD_MS
from protocol.values.reasons import Failure
from protocol.wire.envelope import open_envelope
from protocol.wire.messages import Award, Bid, BidReveal, LeaseRelease, Outcome
from tests.driven import POLICY, START_MS
from tests.simulated_network import job_spec
from tests.strategies import SIGNERS

CONTEXT = Context(START_MS, SIGNERS[0], POLICY)
JOB = Job(JobId(bytes(16)), job_spec(rate_max=100), START_MS)
AUCTION = auction_for(JOB, (), CONTEXT)
SET = ContentId(bytes([5]) * 32)
BEN, CLEO, DAN = SIGNERS[1:4]


def opening(*asks: int, unopened: int = 0) -> Opening:
    """Return the state in which the first bidders have opened their bids, and others have not."""
    offers, commitments = [], []
    for number in range(len(asks) + unopened):
        signer = SIGNERS[number + 1]
        bid = Bid(asks[number] if number < len(asks) else 1, "embedded", 1, 10_000, 35_000, 0)
        digest = commitment_of(AUCTION.call_id, signer.peer_id, bid, bytes(32))
        commitments.append(Commitment(signer.peer_id, digest))
        if number < len(asks):
            reveal = signer.sign(BidReveal(AUCTION.call_id, SET, bid, bytes(32)))
            offers.append(Offer(signer.peer_id, bid, reveal.envelope))
    return Opening(AUCTION, START_MS, SET, tuple(commitments), (), tuple(offers))


def said(effects: tuple[Any, ...], kind: type) -> list[tuple[str, Any]]:
    """Return to whom what was said."""
    opened = [
        (effect.peer, open_envelope(effect.envelope, SIGNERS[0].network_id, effect.peer).message)
        for effect in effects if isinstance(effect, Send)
    ]  # fmt: skip
    return [(peer, message) for peer, message in opened if isinstance(message, kind)]


def test_the_cheapest_wins_at_the_second_price_and_all_are_told() -> None:
    state, effects = decide(opening(50, 30, 70), CONTEXT)
    assert isinstance(state, Awarding)
    ((winner, award),) = said(effects, Award)
    assert (winner, award.rate, award.shift, award.offer) == (CLEO.peer_id, 50, 0, 0)
    assert award.evidence == opening(50).offers[0].reveal
    assert state.lease_id == lease_id_of(AUCTION.call_id, 0, 0, 0, CLEO.peer_id)
    outcomes = said(effects, Outcome)
    assert [peer for peer, _ in outcomes] == [BEN.peer_id, CLEO.peer_id, DAN.peer_id]
    assert {(told.winner, told.clearing, told.opened, told.unopened) for _, told in outcomes} == {
        (CLEO.peer_id, 50, 3, 0)
    }


def test_the_user_hears_of_bids_before_the_award() -> None:
    _, effects = decide(opening(50, 101), CONTEXT)
    bids, awarded = [effect.event for effect in effects if isinstance(effect, Report)]
    assert isinstance(bids, BidsOpened)
    assert [(seen.bid.ask, seen.eligible) for seen in bids.bids] == [(50, True), (101, False)]
    assert isinstance(awarded, Awarded)
    assert (awarded.rate, awarded.ask, awarded.runner_up) == (100, 50, 100)


def test_an_unopened_commitment_moves_the_price_up_by_one_place() -> None:
    _, effects = decide(opening(30, 50, 70, unopened=3), CONTEXT)
    ((_, award),) = said(effects, Award)
    assert (award.rate, award.shift) == (70, 1)


def test_the_next_is_paid_by_those_who_are_left() -> None:
    first, _ = decide(opening(30, 50, 70), CONTEXT)
    second, effects = award_next(first, CONTEXT, ())
    ((winner, award),) = said(effects, Award)
    assert (winner, award.rate, award.offer) == (CLEO.peer_id, 100, 1)
    assert isinstance(effects[0], Save)
    third, _ = award_next(second, CONTEXT, ())
    lost, effects = award_next(third, CONTEXT, ())
    assert isinstance(lost, Lost)
    assert (lost.reason, effects) == (
        Failure.EXHAUSTED, (Save("auction", AUCTION.call_id, None),)
    )  # fmt: skip
    assert lost.why.startswith("3 winning bidders did not take the job")


def test_after_a_failure_settled_peers_come_first_and_are_paid_at_least_their_ask() -> None:
    served = replace(CONTEXT, standing_of=lambda peer: Standing(settled=peer == DAN.peer_id))
    first, effects = decide(opening(30, 50, 70, 80), served)
    ((winner, award),) = said(effects, Award)
    assert (winner, award.rate) == (BEN.peer_id, 50), "the first award goes by price alone"
    second, effects = award_next(first, served, ())
    ((winner, award),) = said(effects, Award)
    assert (winner, award.rate) == (DAN.peer_id, 100), "one dearer is left, and the shift is one"
    _, effects = award_next(second, served, ())
    ((winner, award),) = said(effects, Award)
    assert (winner, award.rate) == (CLEO.peer_id, 100)


def test_bids_that_are_no_longer_binding_get_no_award() -> None:
    first, _ = decide(opening(30, 50), CONTEXT)
    held_until_ms = first.ranking.held_until_ms
    assert held_until_ms + ACCEPT_MS == START_MS + AUCTION.call.hold_ms
    on_time = replace(CONTEXT, now_ms=held_until_ms)
    late = replace(CONTEXT, now_ms=held_until_ms + 1)
    assert isinstance(award_next(first, on_time, ())[0], Awarding)
    assert isinstance(award_next(first, late, ())[0], Lost)


def test_a_bid_binds_long_enough_for_every_fallback() -> None:
    assert HOLD_MS - ACCEPT_MS >= (FALLBACKS_MAX - 1) * ACCEPT_MS


def test_fallbacks_are_bounded() -> None:
    state, _ = decide(opening(1, 2, 3), CONTEXT)
    worn = replace(state, ranking=replace(state.ranking, passed=FALLBACKS_MAX - 1))
    assert isinstance(award_next(worn, CONTEXT, ())[0], Lost)


def test_nobody_below_the_ceiling_is_no_match() -> None:
    lost, effects = decide(opening(101, 102), CONTEXT)
    assert isinstance(lost, Lost)
    assert lost.reason is Failure.NO_MATCH
    assert lost.why == "all 2 bids ask more than the job's maximum price"
    assert (
        decide(opening(101), CONTEXT)[0].why
        == "the only bid asks more than the job's maximum price"
    )
    assert [told.winner for _, told in said(effects, Outcome)] == ["", ""]


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
    assert lost.why == no_bids(refused)
    assert lost.why.endswith("2 refused: busy with other jobs")


def test_a_fence_names_the_lease() -> None:
    state, _ = decide(opening(30), CONTEXT)
    ((peer, release),) = said((fence(state, CONTEXT),), LeaseRelease)
    assert (peer, release.lease_id, release.reason) == (BEN.peer_id, state.lease_id, 2)


def test_a_cancelled_auction_notifies_each_bidder_once() -> None:
    lost, effects = call_off(AUCTION, [BEN.peer_id, CLEO.peer_id], CONTEXT)
    assert isinstance(lost, Lost)
    assert lost.reason is Failure.CANCELLED
    assert [effect.peer for effect in effects if isinstance(effect, Send)] == [
        BEN.peer_id, CLEO.peer_id,
    ]  # fmt: skip
