"""The winners of an auction and their prices.

Spec: specs/auction.md#selection. An auction sells equal slots. Profile V pays each slot the ask of
the bid that it displaces (Vickrey, Clarke, Groves), moved up by unopened commitments (the shift
rule); Profile Q pays the bid. All values are integers; the order of arrival has no influence.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from protocol.values.ids import CallId, ContentId, PeerId
from protocol.values.limits import SETTERS_MAX
from protocol.values.units import PPM
from protocol.wire.job import QUICK
from protocol.wire.messages import LOTTERY_ALL, NO_ID, NO_LOSER, Bid, Call, CommitSet, Winner

LOT_DOMAIN: Final = b"mutirao/lot/1\0"
INVITATION_DOMAIN: Final = b"mutirao/invitation/1\0"


@dataclass(frozen=True, slots=True)
class Offer:
    """An opened bid, with the envelope that proves it."""

    peer: PeerId
    bid: Bid
    reveal: bytes
    weight: int = PPM
    """The factor by which its ask is weighed, in millionths. The requester's part of it is fixed
    before the bid is opened, the rest follows from its promised start."""
    reveal_id: ContentId = NO_ID
    """The content id of the envelope."""

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
    lot = hashlib.sha256(LOT_DOMAIN + call_id + peer.encode()).digest()
    return lot <= _last_lot(lottery)


def invitation_of(nonce: bytes, peer: PeerId) -> bytes:
    """Return the 8 bytes by which a call with this nonce names a peer that it invites."""
    return hashlib.sha256(INVITATION_DOMAIN + nonce + peer.encode()).digest()[:8]


def is_invited(call: Call, peer: PeerId) -> bool:
    """Return whether a call invites a provider by name."""
    return bool(call.invited) and invitation_of(call.nonce, peer) in call.invited


def may_bid(call_id: CallId, call: Call, peer: PeerId) -> bool:
    """Return whether a call invites a provider or its lottery draws it."""
    return is_drawn(call_id, peer, call.lottery) or is_invited(call, peer)


def drawn_among(call_id: CallId, peers: Iterable[bytes], lottery: int) -> list[int]:
    """Return the places of those encoded peer ids that a call's lottery lets bid."""
    head, last, sha256 = LOT_DOMAIN + call_id, _last_lot(lottery), hashlib.sha256
    lots = (sha256(head + peer).digest() for peer in peers)
    return [place for place, lot in enumerate(lots) if lot <= last]


@lru_cache(maxsize=16)
def _last_lot(lottery: int) -> bytes:
    """Return the highest lot that a lottery draws: its first 8 bytes decide."""
    return (-(-(lottery << 64) // LOTTERY_ALL) - 1).to_bytes(8) + b"\xff" * 24


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
    regions: set[str] = set()
    for offer in ranking:
        if left and is_open(call, offer, regions):
            taken = 1 if call.spread else min(left, offer.bid.slots)
            shares.append(Winner(offer.peer, taken))
            regions.add(offer.bid.region)
            left -= taken
    return () if call.gang and left else tuple(shares)


def is_open(call: Call, offer: Offer, regions: Collection[str]) -> bool:
    """Return whether an offer may have a slot beside those sold in some regions."""
    return not call.spread or (offer.bid.region != "" and offer.bid.region not in regions)


def regions_of(offers: Iterable[Offer], sold: Mapping[PeerId, int]) -> set[str]:
    """Return the regions in which slots are sold; `sold` is how many each bidder has won."""
    return {offer.bid.region for offer in offers if sold.get(offer.peer, 0)}


def losers(
    call: Call, offers: Sequence[Offer], sold: Mapping[PeerId, int], winner: Offer
) -> list[Offer]:
    """Return the offers of others that would have a winner's slot without it, best first.

    These have slots left and score no less; if the call spreads its slots, none is in the region of
    another winner. `sold` is how many slots each bidder has won. Of equal scores, the one with more
    slots left comes first. A better bid than the winner's was passed over, for the bad standing of
    its bidder, and sets no price.
    """
    others = regions_of(offers, sold) - {winner.bid.region}

    def left(offer: Offer) -> int:
        return offer.bid.slots - sold.get(offer.peer, 0)

    losing = [
        offer
        for offer in offers
        if offer.peer != winner.peer
        and offer.score >= winner.score
        and left(offer) > 0
        and is_open(call, offer, others)
    ]
    return sorted(losing, key=lambda offer: (offer.score, -left(offer)))


def losing_score(offers: Iterable[Offer], sold: Mapping[PeerId, int]) -> int:
    """Return the least score of the offers that have slots left; NO_LOSER if none has.

    `sold` is how many slots each bidder has won.
    """
    losing = (offer.score for offer in offers if offer.bid.slots > sold.get(offer.peer, 0))
    return min(losing, default=NO_LOSER)


def price_of(
    call: Call, offers: Sequence[Offer], sold: Mapping[PeerId, int], place: tuple[Offer, int],
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
    setters = losers(call, offers, sold, winner)
    left = [(offer.score, offer.bid.slots - sold.get(offer.peer, 0)) for offer in setters]
    score = score_at(left, unit, shift)
    if score is None:
        return Price(call.rate_max)
    rate = rate_at(score, winner.weight, call)
    assert winner.bid.ask <= rate <= call.rate_max
    return Price(rate, tuple(offer.reveal for offer in setters[:SETTERS_MAX]))


def score_at(losing: Sequence[tuple[int, int]], unit: int, shift: int) -> int | None:
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
