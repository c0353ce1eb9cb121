"""The winners of an auction and their prices.

Spec: specs/auction.md#selection. An auction sells equal slots. Profile V pays each slot the ask of
the bid that it displaces (Vickrey, Clarke, Groves), moved up by unopened commitments (the shift
rule); Profile Q pays the bid. All values are integers; the order of arrival has no influence.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from protocol.rules.commitment import commitment_of
from protocol.values.ids import CallId, ContentId, PeerId
from protocol.values.limits import SETTERS_MAX
from protocol.values.units import PPM
from protocol.wire.envelope import Signed
from protocol.wire.job import QUICK
from protocol.wire.messages import (
    LOTTERY_ALL,
    NO_ID,
    Award,
    Bid,
    BidReveal,
    Call,
    CommitSet,
    Outcome,
    Winner,
)


@dataclass(frozen=True, slots=True)
class Offer:
    """An opened bid, with the envelope that proves it."""

    peer: PeerId
    bid: Bid
    reveal: bytes
    weight: int = PPM
    """The factor by which its ask is weighed, in millionths: fixed before it was opened."""

    @property
    def score(self) -> int:
        """Its weighed ask, rounded up: the lower, the better."""
        return score_of(self.bid.ask, self.weight)


@dataclass(frozen=True, slots=True)
class Price:
    """The price of one slot, and the envelopes that prove it."""

    rate: int
    evidence: tuple[bytes, ...] = ()
    """Empty if the call's highest rate set the price, or the winner's own bid did."""


def is_drawn(call_id: CallId, peer: PeerId, lottery: int) -> bool:
    """Return whether a call's lottery, in millionths, lets a provider bid.

    It only limits the load: a requester can try nonces.
    """
    lot = int.from_bytes(hashlib.sha256(b"mutirao/lot/1\0" + call_id + peer.encode()).digest()[:8])
    return lot * LOTTERY_ALL < lottery << 64


def score_of(ask: int, weight: int) -> int:
    """Return a weighed ask, rounded up. `weight` is in millionths."""
    return -(-ask * weight // PPM)


def rate_at(score: int, weight: int, call: Call) -> int:
    """Return the highest rate at which a bid with this weight scores no more, within the call."""
    return min(score * PPM // weight, call.rate_max)


def weights_of(commit_set: CommitSet) -> dict[bytes, int]:
    """Return the weight of each commitment of a set, in millionths."""
    weights = commit_set.weights or (PPM,) * len(commit_set.commitments)
    return dict(zip(commit_set.commitments, weights, strict=False))


def rank(call: Call, tie_break: ContentId, offers: Iterable[Offer]) -> tuple[Offer, ...]:
    """Return the offers that the call can pay, the best first.

    Ties are broken by a hash over `tie_break`, which no single peer chose.
    """
    eligible = [offer for offer in offers if offer.bid.ask <= call.rate_max]
    return tuple(sorted(eligible, key=lambda offer: (offer.score, _lot(tie_break, offer.peer))))


def shares_of(call: Call, ranking: Iterable[Offer]) -> tuple[Winner, ...]:
    """Return who wins how many of the slots.

    If the offers do not suffice for all, a gang gets none.
    """
    shares, left = [], call.slots
    for offer in ranking:
        if left:
            taken = min(left, offer.bid.slots)
            shares.append(Winner(offer.peer, taken))
            left -= taken
    return () if call.gang and left else tuple(shares)


def losers(offers: Iterable[Offer], sold: Mapping[PeerId, int], winner: Offer) -> list[Offer]:
    """Return the offers of others that have slots left and score no less, best first.

    `sold` is how many slots each bidder has won. Of equal scores, the one with more slots left
    comes first. A better bid than the winner's was passed over, for the bad standing of its bidder,
    and sets no price.
    """

    def left(offer: Offer) -> int:
        return offer.bid.slots - sold.get(offer.peer, 0)

    losing = [
        offer
        for offer in offers
        if offer.peer != winner.peer and offer.score >= winner.score and left(offer) > 0
    ]
    return sorted(losing, key=lambda offer: (offer.score, -left(offer)))


def price_of(
    call: Call, offers: Iterable[Offer], sold: Mapping[PeerId, int], place: tuple[Offer, int],
    shift: int,
) -> Price:  # fmt: skip
    """Return the price of one slot of a winner when `shift` commitments failed.

    `place` is the winner's offer and the number of this slot among its slots. Without the winner,
    its slots would go to the cheapest slots that the others have left: its first slot is paid the
    first of their asks, its second slot the second.
    """
    assert shift <= call.shift_cap
    winner, unit = place
    if call.profile == QUICK:
        return Price(winner.bid.ask)
    setters = losers(offers, sold, winner)
    left = [(offer.score, offer.bid.slots - sold.get(offer.peer, 0)) for offer in setters]
    score = _score_at(left, unit, shift)
    if score is None:
        return Price(call.rate_max)
    rate = rate_at(score, winner.weight, call)
    assert winner.bid.ask <= rate <= call.rate_max
    return Price(rate, tuple(offer.reveal for offer in setters[:SETTERS_MAX]))


def award_fault(
    call: Call,
    commit_set: CommitSet | None,
    own: tuple[Bid, bytes],
    award: Award,
    sale: tuple[Outcome, Sequence[Signed[BidReveal]]],
) -> str:
    """Return what is wrong with an award's price, as far as its winner can see; empty if nothing.

    `own` is the winner's bid and its commitment, `sale` the verified outcome and the verified
    evidence of the award.
    """
    bid, commitment = own
    if award.rate < bid.ask:
        return "the award pays less than the ask"
    if call.profile == QUICK:
        return "" if award.rate == bid.ask else "Profile Q pays the ask"
    outcome, setters = sale
    weights = weights_of(commit_set) if commit_set else {commitment: PPM}
    won = Counter({share.peer: share.slots for share in outcome.winners})
    if setters and won.total() != call.slots:
        return "the outcome does not sell all slots, but another bid sets the price"
    if len({setter.signer for setter in setters}) < len(setters):
        return "the evidence repeats a bid"
    weight = weights[commitment]
    left = []
    for setter in setters:
        reveal = setter.message
        opened = commitment_of(reveal.call_id, setter.signer, reveal.bid, reveal.nonce)
        if opened not in weights:
            return "the bid that set the price has no commitment in the set"
        score = score_of(reveal.bid.ask, weights[opened])
        is_loser = won[setter.signer] < reveal.bid.slots and score >= score_of(bid.ask, weight)
        if reveal.call_id != award.call_id or not is_loser:
            return "the evidence is no losing bid of this auction"
        left.append((score, reveal.bid.slots - won[setter.signer]))
    left.sort(key=lambda pair: (pair[0], -pair[1]))
    found = _score_at(left, award.unit, award.shift)
    if found is None:
        return "" if award.rate == call.rate_max else "the price has no evidence"
    same = award.rate == rate_at(found, weight, call)
    return "" if same else "the evidence gives another price"


def outcome_fault(
    call: Call, commit_set: Signed[CommitSet] | None, own: PeerId, award: Award, outcome: Outcome
) -> str:
    """Return what is wrong with the outcome of an award, as its winner sees; empty if nothing.

    The winner has the set, so it knows the number of bids. It cannot verify which of them were
    opened, but the shift must follow from that.
    """
    set_id = commit_set.content_id if commit_set else NO_ID
    if (outcome.call_id, outcome.commit_set) != (award.call_id, set_id):
        return "the outcome is of another auction"
    bids = len(commit_set.message.commitments) if commit_set else outcome.opened
    if outcome.opened < 1 or outcome.opened + outcome.unopened != bids:
        return "the outcome does not account for every commitment of the set"
    if commit_set and len(commit_set.message.weights) not in {0, bids}:
        return "the set does not weigh each commitment"
    if award.shift != min(outcome.unopened + award.offer, call.shift_cap):
        return "the shift does not follow from the outcome"
    won = {share.peer: share.slots for share in outcome.winners}
    if len(won) < len(outcome.winners) or sum(won.values()) > call.slots:
        return "the outcome sells more slots than the call"
    if call.gang and won and sum(won.values()) < call.slots:
        return "the outcome sells only a part of the slots that a gang needs"
    if award.offer == 0 and award.unit >= won.get(own, 0):
        return "the outcome names another winner"
    is_first = award.offer == award.unit == 0 and outcome.winners[0].peer == own
    return "the outcome names another price" if is_first and outcome.clearing != award.rate else ""


def _score_at(losing: Sequence[tuple[int, int]], unit: int, shift: int) -> int | None:
    """Return the score that a slot displaces, from losing scores and the slots that they have left.

    The shift passes over whole bids: otherwise one bid of many slots would absorb it. None if there
    are too few bids. At most SETTERS_MAX bids count.
    """
    proofs = losing[:SETTERS_MAX]
    scores = [score for score, slots in proofs[shift:] for _ in range(slots)]
    if unit < len(scores):
        return scores[unit]
    return scores[-1] if len(proofs) == SETTERS_MAX else None


def _lot(tie_break: ContentId, peer: PeerId) -> bytes:
    return hashlib.sha256(tie_break + peer.encode()).digest()
