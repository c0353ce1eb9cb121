"""The winner of an auction and its price.

Spec: specs/auction.md#selection. Profile V pays the second price, moved up by unopened commitments
(the shift rule); Profile Q pays the bid. All values are integers; the order of arrival has no
influence.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from protocol.rules.commitment import commitment_of
from protocol.values.ids import ContentId, PeerId
from protocol.wire.envelope import Signed
from protocol.wire.job import QUICK
from protocol.wire.messages import NO_ID, Award, Bid, BidReveal, Call, CommitSet, Outcome


@dataclass(frozen=True, slots=True)
class Offer:
    """An opened bid, with the envelope that proves it."""

    peer: PeerId
    bid: Bid
    reveal: bytes


@dataclass(frozen=True, slots=True)
class Price:
    """The price of the first bid of a ranking, and the envelope that proves it."""

    rate: int
    evidence: bytes
    """Empty if the call's highest rate set the price, or the winner's own bid did."""


def rank(call: Call, tie_break: ContentId, offers: Iterable[Offer]) -> tuple[Offer, ...]:
    """Return the offers that the call can pay, the best first.

    Ties are broken by a hash over `tie_break`, which no single peer chose.
    """
    eligible = [offer for offer in offers if offer.bid.ask <= call.rate_max]
    return tuple(sorted(eligible, key=lambda offer: (offer.bid.ask, _lot(tie_break, offer.peer))))


def rivals(ranking: tuple[Offer, ...]) -> tuple[Offer, ...]:
    """Return the offers that may set the price of the first, which ask no less, cheapest first.

    A ranking may begin with an offer that is not the cheapest, if cheaper bidders have a bad
    standing.
    """
    dearer = [offer for offer in ranking[1:] if offer.bid.ask >= ranking[0].bid.ask]
    return tuple(sorted(dearer, key=lambda offer: offer.bid.ask))


def price_of_first(call: Call, ranking: tuple[Offer, ...], shift: int) -> Price:
    """Return the price of the first of the ranking when `shift` commitments failed."""
    assert ranking
    assert shift <= call.shift_cap
    winner, losers = ranking[0], rivals(ranking)
    if call.profile == QUICK:
        return Price(winner.bid.ask, b"")
    if shift >= len(losers):
        return Price(call.rate_max, b"")
    setter = losers[shift]
    assert winner.bid.ask <= setter.bid.ask <= call.rate_max
    return Price(setter.bid.ask, setter.reveal)


def award_fault(
    call: Call,
    commit_set: CommitSet | None,
    own: Bid,
    award: Award,
    setter: Signed[BidReveal] | None,
) -> str:
    """Return what is wrong with an award's price, as far as its winner can see; empty if nothing.

    `setter` is the verified evidence of the award, None if the award has none.
    """
    if award.rate < own.ask:
        return "the award pays less than the ask"
    if call.profile == QUICK:
        return "" if award.rate == own.ask else "Profile Q pays the ask"
    if setter is None:
        return "" if award.rate == call.rate_max else "the price has no evidence"
    reveal = setter.message
    opened = commitment_of(reveal.call_id, setter.signer, reveal.bid, reveal.nonce)
    if commit_set is None or opened not in commit_set.commitments:
        return "the bid that set the price has no commitment in the set"
    if reveal.call_id != award.call_id or reveal.bid.ask != award.rate:
        return "the evidence gives another price"
    return ""


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
    if award.shift != min(outcome.unopened + award.offer, call.shift_cap):
        return "the shift does not follow from the outcome"
    if award.offer == 0 and (outcome.winner, outcome.clearing) != (own, award.rate):
        return "the outcome names another winner or price"
    return ""


def _lot(tie_break: ContentId, peer: PeerId) -> bytes:
    return hashlib.sha256(tie_break + peer.encode()).digest()
