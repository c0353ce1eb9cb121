"""The decision of an auction and its consequences: awards, fences and the end.

Spec: specs/auction.md#deciding.
"""

from dataclasses import replace

from protocol.machines.context import Context
from protocol.machines.effects import Effect, Report, Save, Send
from protocol.machines.events import CANCELLED, Awarded, BidSeen, BidsOpened
from protocol.machines.requester.auction.places import in_places, welcome
from protocol.machines.requester.auction.states import (
    Auction,
    Awarding,
    Lost,
    Opening,
    Ranking,
    Refused,
    Step,
)
from protocol.rules.matching import sentence_of_refusals
from protocol.rules.selection import price_of_first, rank, rivals
from protocol.values.ids import ContentId, PeerId, lease_id_of
from protocol.values.limits import ACCEPT_MS, FALLBACKS_MAX, MESSAGE_MS
from protocol.values.reasons import Failure, Release
from protocol.wire.messages import Award, Cancel, LeaseRelease, Outcome


def decide(state: Opening, context: Context) -> Step:
    """Rank the open bids, tell every bidder, and award the job to the best."""
    auction = state.auction
    tie_break = state.commit_set if state.commitments else ContentId(auction.call_id)
    ranking = rank(auction.call, tie_break, welcome(state.offers, context))
    unopened = max(0, len(state.commitments) - len(state.offers))
    eligible = {offer.peer for offer in ranking}
    seen = tuple(BidSeen(o.peer, o.bid, o.peer in eligible) for o in state.offers)
    refusals = tuple((r.peer, r.reason) for r in state.refused)
    report = Report(auction.job_id, BidsOpened(seen, unopened, refusals))
    shift = min(unopened, auction.call.shift_cap)
    rate = price_of_first(auction.call, ranking, shift).rate if ranking else 0
    winner = ranking[0].peer if ranking else PeerId("")
    outcome = context.signer.sign(
        Outcome(auction.call_id, state.commit_set, winner, rate, len(state.offers), unopened)
    )
    until_ms = context.now_ms + auction.call.hold_ms
    tell = [Send(offer.peer, outcome.envelope, until_ms) for offer in state.offers]
    if not ranking:
        lost, effects = _lose_without_bids(state)
        return lost, (report, *tell, *effects)
    first = Ranking(ranking, shift, 0, until_ms - ACCEPT_MS, outcome.envelope)
    awarding, effects = _award(auction, first, context)
    return awarding, (report, *effects, *tell)


def _award(auction: Auction, ranking: Ranking, context: Context) -> Step:
    call, offers = auction.call, ranking.offers
    winner = offers[0]
    price = price_of_first(call, offers, ranking.shift)
    assert winner.bid.ask <= price.rate <= call.rate_max
    place = (0, call.attempt, ranking.passed)
    award = context.signer.sign(
        Award(auction.call_id, ranking.outcome, *place, price.rate, ranking.shift, price.evidence)
    )
    lease_id = lease_id_of(auction.call_id, *place, winner.peer)
    deadline_ms = context.now_ms + ACCEPT_MS
    awarding = Awarding(auction, deadline_ms, ranking, award.content_id, lease_id, price.rate)
    others = rivals(offers)
    runner_up = others[0].bid.ask if others else call.rate_max
    return awarding, (
        Save("auction", auction.call_id, awarding),
        Report(
            auction.job_id,
            Awarded(winner.peer, lease_id, price.rate, winner.bid.ask, runner_up),
        ),
        Send(winner.peer, award.envelope, deadline_ms),
    )


def award_next(state: Awarding, context: Context, fences: tuple[Effect, ...]) -> Step:
    """Award the job to the next bid, or end the auction if no bid is still binding.

    After a failure, bidders that have served us come first: a low ask costs a stranger nothing.
    """
    auction, before = state.auction, state.ranking
    rest, passed = in_places(before.offers[1:], context), before.passed + 1
    if not rest or passed >= FALLBACKS_MAX or context.now_ms > before.held_until_ms:
        why = f"{passed} winning bidders did not take the job, and no other bid is left"
        lost, effects = lose(auction, Failure.EXHAUSTED, why)
        return lost, (*fences, *effects)
    shift = min(before.shift + 1, auction.call.shift_cap)
    ranking = replace(before, offers=rest, shift=shift, passed=passed)
    following, effects = _award(auction, ranking, context)
    return following, (*fences, *effects)


def fence(state: Awarding, context: Context, reason: Release = Release.FENCED) -> Send:
    """Return the message that forbids the winner to start anything."""
    release = context.signer.sign(LeaseRelease(state.lease_id, reason))
    return Send(state.winner, release.envelope, context.now_ms + MESSAGE_MS)


def call_off(auction: Auction, peers: list[PeerId], context: Context) -> Step:
    """End the auction for our user and tell the peers."""
    cancel = context.signer.sign(Cancel(auction.call_id))
    until_ms = context.now_ms + auction.call.hold_ms
    lost, effects = lose(auction, Failure.CANCELLED, CANCELLED)
    return lost, (*(Send(peer, cancel.envelope, until_ms) for peer in peers), *effects)


def _lose_without_bids(state: Opening) -> tuple[Lost, tuple[Effect, ...]]:
    auction = state.auction
    if not state.offers and state.commitments:
        why = f"none of {len(state.commitments)} bidders opened its bid"
        return lose(auction, Failure.EXHAUSTED, why)
    if not state.offers:
        return lose(auction, Failure.NO_BIDS, no_bids(state.refused))
    count = len(state.offers)
    who = f"all {count} bids ask" if count > 1 else "the only bid asks"
    why = f"{who} more than the job's maximum price"
    return lose(auction, Failure.NO_MATCH, why)


def lose(auction: Auction, reason: Failure, why: str) -> tuple[Lost, tuple[Effect, ...]]:
    """End the auction without a lease."""
    return Lost(auction, reason, why), (Save("auction", auction.call_id, None),)


def no_bids(refused: tuple[Refused, ...]) -> str:
    """Return why those who refused do not bid, in one line; empty if nobody refused."""
    return sentence_of_refusals([item.reason for item in refused])
