"""What a bidder can verify: the set, the outcome and the award that its requester has signed.

Spec: specs/auction.md#verification. Each check returns what is wrong in one sentence, or nothing.
An honest requester never fails one, so a failed check is a fault of the requester.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from protocol.rules.commitment import commitment_of
from protocol.rules.selection import rate_at, score_at, score_of, weights_of
from protocol.rules.start_promise import weight_with_start
from protocol.values.errors import PeerFault
from protocol.values.ids import CallId, PeerId
from protocol.values.units import PPM
from protocol.wire.envelope import Signed, open_envelope
from protocol.wire.job import QUICK
from protocol.wire.messages import (
    NO_ID,
    NO_LOSER,
    Award,
    BidReveal,
    Call,
    CommitSet,
    Outcome,
)


@dataclass(frozen=True, slots=True)
class OpenedBid:
    """A bid that its bidder has opened, with the signed messages that bind both sides."""

    call: Signed[Call]
    commit_set: Signed[CommitSet] | None
    """The set that contains its commitment; None in Profile Q, which has no commitments."""
    reveal: Signed[BidReveal]

    @property
    def envelopes(self) -> tuple[bytes, ...]:
        """The call, the set if there is one, and the reveal, as they are signed."""
        parts = (self.call, self.commit_set, self.reveal)
        return tuple(part.envelope for part in parts if part is not None)

    @property
    def bidder(self) -> PeerId:
        """Who bid."""
        return self.reveal.signer

    @property
    def commitment(self) -> bytes:
        """The commitment that the reveal opens."""
        return _commitment_in(self.reveal)

    @property
    def weight(self) -> int:
        """The factor by which the ask is weighed, the promised start included, in millionths."""
        return self._weight_of(self.reveal)

    @property
    def score(self) -> int:
        """The weighed ask."""
        return self.score_of(self.reveal)

    @property
    def position(self) -> int:
        """The position of its commitment in the set, from 0; ValueError if it is not there."""
        assert self.commit_set is not None
        return self.commit_set.message.commitments.index(self.commitment)

    def score_of(self, reveal: Signed[BidReveal]) -> int:
        """Return the weighed ask of a bid that the set contains."""
        return score_of(reveal.message.bid.ask, self._weight_of(reveal))

    def _weight_of(self, reveal: Signed[BidReveal]) -> int:
        weight = PPM
        if self.commit_set:
            weight = weights_of(self.commit_set.message)[_commitment_in(reveal)]
        return weight_with_start(weight, reveal.message.bid, self.call.message)


def set_fault(commit_set: CommitSet) -> str:
    """Return what is wrong with a set of commitments; empty if nothing."""
    digests, weights = commit_set.commitments, commit_set.weights
    if any(one >= other for one, other in pairwise(digests)):
        return "the set is not sorted, or repeats a commitment"
    if len(weights) not in {0, len(digests)}:
        return "the set does not weigh each commitment"
    return ""


def shown_set(call: Signed[Call], envelope: bytes, network: bytes) -> Signed[CommitSet] | None:
    """Return a set of the call's requester that another peer shows; None if it is not one.

    `network` is the network's id.
    """
    try:
        told = open_envelope(envelope, network, call.signer)
    except PeerFault:
        return None
    message = told.message
    if not isinstance(message, CommitSet) or told.signer != call.signer:
        return None
    if message.call_id != CallId(call.content_id):
        return None
    return Signed(told.signer, message, told.envelope, told.content_id)


def loss_fault(bid: OpenedBid, outcome: Outcome) -> str:
    """Return why a bid should have won, as the outcome itself shows; empty if it rightly lost.

    In Profile Q nobody can tell: the weights are the requester's own.
    """
    if bid.commit_set is None:
        return ""
    if outcome.commit_set != bid.commit_set.content_id:
        return "the outcome is of another set than the bid was opened to"
    call, offered = bid.call.message, bid.reveal.message.bid
    won = sum(share.slots for share in outcome.winners if share.peer == bid.bidder)
    payable = offered.ask <= call.rate_max
    if bid.position not in outcome.opened or won >= offered.slots or not payable:
        return ""
    if outcome.losing_score == NO_LOSER:
        return "the bid counts and has slots left, but the outcome says that no bid has lost"
    if bid.score < outcome.losing_score:
        told = f"the outcome says that no bid below {outcome.losing_score} has lost"
        return f"the bid counts, has slots left and scores {bid.score}, but {told}"
    unsold = call.slots - sum(share.slots for share in outcome.winners)
    enough = unsold if call.gang else 1  # No bid alone is enough for slots in several regions.
    if unsold > 0 and offered.slots - won >= enough and not call.spread:
        return "the bid counts and has slots left, but the outcome leaves slots unsold"
    return ""


def award_fault(bid: OpenedBid, award: Award, network: bytes) -> str:
    """Return what is wrong with the award of a bid, as its bidder sees it; empty if nothing.

    `network` is the network's id: the messages inside the award are verified.
    """
    requester = bid.call.signer
    try:
        told = open_envelope(award.outcome, network, requester)
        shown = [open_envelope(proof, network, requester) for proof in award.evidence]
    except PeerFault as fault:
        return fault.why
    if not isinstance(told.message, Outcome) or told.signer != requester:
        return "the outcome is not the requester's"
    setters = [
        Signed(each.signer, each.message, each.envelope, each.content_id)
        for each in shown
        if isinstance(each.message, BidReveal) and each.signer != bid.bidder
    ]
    if len(setters) < len(shown):
        return "the evidence is no bid of another"
    return outcome_fault(bid, award, told.message) or price_fault(bid, award, told.message, setters)


def outcome_fault(bid: OpenedBid, award: Award, outcome: Outcome) -> str:
    """Return what is wrong with the outcome of an award; empty if nothing.

    The bidder has the set, so it knows the number of bids. It cannot verify which of the others
    were opened, but the shift must follow from that.
    """
    call, commit_set = bid.call.message, bid.commit_set
    set_id = commit_set.content_id if commit_set else NO_ID
    if (outcome.call_id, outcome.commit_set) != (award.call_id, set_id):
        return "the outcome is of another auction"
    bids = len(commit_set.message.commitments) if commit_set else 0
    positions = [position for position in range(bids) if position in outcome.opened]
    if outcome.opened != tuple(positions):
        return "the outcome counts bids that are not in the set"
    if commit_set and bid.position not in outcome.opened:
        return "the outcome does not count the bid"
    if award.shift != min(bids - len(positions) + award.offer, call.shift_cap):
        return "the shift does not follow from the outcome"
    won = {share.peer: share.slots for share in outcome.winners}
    if len(won) < len(outcome.winners) or sum(won.values()) > call.slots:
        return "the outcome sells more slots than the call"
    if call.gang and won and sum(won.values()) < call.slots:
        return "the outcome sells only a part of the slots that a gang needs"
    if call.spread and any(slots > 1 for slots in won.values()):
        return "the outcome sells several slots of one bidder, but each is in a region of its own"
    if award.offer == 0 and award.unit >= won.get(bid.bidder, 0):
        return "the outcome names another winner"
    is_first = award.offer == award.unit == 0 and outcome.winners[0].peer == bid.bidder
    return "the outcome names another price" if is_first and outcome.clearing != award.rate else ""


def price_fault(
    bid: OpenedBid, award: Award, outcome: Outcome, setters: Sequence[Signed[BidReveal]]
) -> str:
    """Return what is wrong with an award's price; empty if nothing.

    `setters` are the verified bids that are said to set it.
    """
    call, offered = bid.call.message, bid.reveal.message.bid
    if award.rate < offered.ask:
        return "the award pays less than the ask"
    if call.profile == QUICK:
        return "" if award.rate == offered.ask else "Profile Q pays the ask"
    won = Counter({share.peer: share.slots for share in outcome.winners})
    if wrong := _evidence_fault(bid, won, setters):
        return wrong
    left = ((bid.score_of(each), each.message.bid.slots - won[each.signer]) for each in setters)
    losing = sorted(left, key=lambda pair: (pair[0], -pair[1]))
    found = score_at(losing, award.unit, award.shift)
    if found is None and award.rate != call.rate_max:
        return "the price has no evidence"
    if found is not None and award.rate != rate_at(found, bid.weight, call):
        return "the evidence gives another price"
    if award.offer or call.spread:  # The losers are fewer than at the decision, or in each region.
        return ""
    if outcome.losing_score < bid.score:
        return "the outcome says that a better bid has lost"
    own = [bid.score] if won[bid.bidder] < offered.slots else []
    if losing and outcome.losing_score != min([losing[0][0], *own]):
        return "the outcome names another losing score than the evidence"
    return ""


def _evidence_fault(
    bid: OpenedBid, won: Mapping[PeerId, int], setters: Sequence[Signed[BidReveal]]
) -> str:
    """Return what is wrong with the bids that are said to set a price; empty if nothing.

    `won` is how many slots each bidder has won.
    """
    assert bid.commit_set is not None, "no bid of Profile V is opened without a set"
    if setters and sum(won.values()) != bid.call.message.slots:
        return "the outcome does not sell all slots, but another bid sets the price"
    if len({setter.signer for setter in setters}) < len(setters):
        return "the evidence repeats a bid"
    for setter in setters:
        if _commitment_in(setter) not in bid.commit_set.message.commitments:
            return "the bid that set the price has no commitment in the set"
        slots_left = setter.message.bid.slots - won.get(setter.signer, 0)
        if setter.message.commit_set != bid.commit_set.content_id:
            return "the bid that set the price was opened to another set"
        is_of_call = setter.message.call_id == CallId(bid.call.content_id)
        if not is_of_call or slots_left <= 0 or bid.score_of(setter) < bid.score:
            return "the evidence is no losing bid of this auction"
    return ""


def _commitment_in(reveal: Signed[BidReveal]) -> bytes:
    message = reveal.message
    return commitment_of(message.call_id, reveal.signer, message.bid, message.nonce)
