"""The decision of an auction: the slots that are sold, their prices, and their replacements.

Spec: specs/auction.md#deciding.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from protocol.machines.context import Context
from protocol.machines.effects import Effect, Report, Send
from protocol.machines.events import CANCELLED, BidSeen, BidsOpened
from protocol.machines.requester.auction.places import bidders_of, in_places, welcome
from protocol.machines.requester.auction.states import (
    Auction,
    Decided,
    Lost,
    Opening,
    Refused,
    SoldSlot,
    Step,
)
from protocol.rules.matching import sentence_of_refusals
from protocol.rules.selection import (
    Offer,
    is_open,
    losers,
    losing_score,
    price_of,
    rank,
    rate_at,
    regions_of,
    shares_of,
)
from protocol.values.ids import ContentId, PeerId
from protocol.values.limits import ACCEPT_MS, FALLBACKS_MAX
from protocol.values.reasons import Failure
from protocol.wire.messages import Cancel, Outcome


def decide(state: Opening, context: Context) -> Step:
    """Rank the open bids, sell the slots to the best, and tell every bidder."""
    auction = state.auction
    call = auction.call
    tie_break = state.commit_set if state.commitments else ContentId(auction.call_id)
    # In Profile V whoever is in the closed set may win.
    bidders = state.offers if state.commitments else welcome(state.offers, state.auction, context)
    if call.gang and not shares_of(call, rank(call, tie_break, bidders)):
        bidders = state.offers
    ranking = rank(call, tie_break, bidders)
    unopened = max(0, len(state.commitments) - len(state.offers))
    shares = shares_of(call, ranking)
    until_ms = context.now_ms + call.hold_ms
    deadline_ms = max(until_ms, context.now_ms + call.reuse_ms)
    decided = Decided(
        auction, deadline_ms, b"", ranking, (), (), unopened, held_until_ms=until_ms - ACCEPT_MS
    )
    won = {share.peer: share.slots for share in shares}
    sold = tuple(
        _slot(decided, offer, unit, won) for offer in ranking
        for unit in range(won.get(offer.peer, 0))
    )  # fmt: skip
    rate = sold[0].price.rate if sold else 0
    losing = losing_score(ranking, won)
    outcome = context.signer.sign(
        Outcome(auction.call_id, state.commit_set, shares, rate, _positions(state), losing)
    )
    report = Report(auction.job_id, _opened(state, ranking, unopened))
    effects: tuple[Effect, ...] = (
        report,
        *(Send(peer, outcome.envelope, until_ms) for peer in bidders_of(state)),
    )
    if not sold:
        return _lose_unsold(state), effects
    return replace(decided, outcome=outcome.envelope, sold=sold), effects


def replacement(
    state: Decided, failed: PeerId, context: Context
) -> tuple[Decided, SoldSlot | None]:
    """Sell one more slot in place of one that its provider did not take, if a bid is left.

    After a failure, bidders that have served us come first: a low ask costs a stranger nothing.
    """
    without = replace(state, failed=(*state.failed, failed))
    sold = Counter(slot.provider for slot in state.sold)
    alive = [offer for offer in state.offers if offer.peer not in without.failed]
    regions = regions_of(alive, sold)
    left = [
        offer
        for offer in alive
        if offer.bid.slots > sold[offer.peer] and is_open(state.auction.call, offer, regions)
    ]
    if not left or len(without.failed) >= FALLBACKS_MAX:
        return without, None
    offer = in_places(left, context)[0]
    sold[offer.peer] += 1
    slot = _slot(without, offer, sold[offer.peer] - 1, sold)
    slot = replace(slot, binding=context.now_ms <= state.held_until_ms)
    return replace(without, sold=(*state.sold, slot)), slot


def supply_of(state: Decided) -> int:
    """Return how many slots the bidders offered."""
    return sum(offer.bid.slots for offer in state.offers)


def call_off(auction: Auction, peers: list[PeerId], context: Context) -> Step:
    """End the auction for our user and tell the peers."""
    cancel = context.signer.sign(Cancel(auction.call_id))
    until_ms = context.now_ms + auction.call.hold_ms
    sends = tuple(Send(peer, cancel.envelope, until_ms) for peer in peers)
    return Lost(auction, Failure.CANCELLED, CANCELLED), sends


def lose_without_bids(auction: Auction, refused: tuple[Refused, ...]) -> Lost:
    """End an auction without bids; say why those who refused do not bid."""
    why = sentence_of_refusals([item.reason for item in refused])
    return Lost(auction, Failure.NO_BIDS, why, refused)


def _slot(state: Decided, offer: Offer, unit: int, sold: Mapping[PeerId, int]) -> SoldSlot:
    """Return one slot of an offer, priced by the bids that are left when `sold` are sold."""
    call, passed = state.auction.call, len(state.failed)
    alive = [offer for offer in state.offers if offer.peer not in state.failed]
    shift = min(state.unopened + passed, call.shift_cap)
    price = price_of(call, alive, sold, (offer, unit), shift)
    best = next(iter(losers(call, alive, sold, offer)), None)
    return SoldSlot(
        state.auction.call_id, offer.peer, offer.bid.ask, offer.bid.voucher_ms, unit, price,
        rate_at(best.score, offer.weight, call) if best else call.rate_max, shift, passed,
        offer.reveal_id, region=offer.bid.region, start_ms=offer.bid.start_ms,
    )  # fmt: skip


def _positions(state: Opening) -> tuple[int, ...]:
    """Return the positions in the set of the commitments that were opened, ascending."""
    opened = {offer.peer for offer in state.offers}
    ordered = sorted(state.commitments, key=lambda commitment: commitment.digest)
    return tuple(n for n, commitment in enumerate(ordered) if commitment.peer in opened)


def _opened(state: Opening, ranking: tuple[Offer, ...], unopened: int) -> BidsOpened:
    eligible = {offer.peer for offer in ranking}
    seen = tuple(BidSeen(o.peer, o.bid, o.peer in eligible) for o in state.offers)
    return BidsOpened(seen, unopened, tuple((r.peer, r.reason) for r in state.refused))


def _lose_unsold(state: Opening) -> Lost:
    auction, count = state.auction, len(state.offers)
    if not count and state.commitments:
        why = f"none of {len(state.commitments)} bidders opened its bid"
        return Lost(auction, Failure.EXHAUSTED, why)
    if not count:
        return lose_without_bids(auction, state.refused)
    call = auction.call
    payable = [o.bid for o in state.offers if o.bid.ask <= call.rate_max]
    if call.spread and payable:
        regions = len({bid.region for bid in payable})
        why = f"bids came from {regions} of the {call.slots} regions that it needs"
        return Lost(auction, Failure.NO_BIDS, why, state.refused)
    if call.gang and payable:
        offered = sum(bid.slots for bid in payable)
        why = f"{offered} of the {call.slots} slots that it needs at once were offered"
        return Lost(auction, Failure.NO_BIDS, why, state.refused)
    who = f"all {count} bids ask" if count > 1 else "the only bid asks"
    return Lost(auction, Failure.NO_MATCH, f"{who} more than the job's maximum price")
