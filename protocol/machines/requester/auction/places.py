"""Which bids an auction takes when it cannot take all, or should not.

Spec: specs/standing.md. Keys cost nothing, so the order of arrival must not decide: the first to
come could fill every place.
"""

from collections.abc import Iterable
from typing import Any, TypeVar

from protocol.machines.context import Context
from protocol.machines.inputs import DeadlineReached
from protocol.machines.requester.auction.states import (
    Auction,
    Calling,
    Commitment,
    Opening,
    State,
)
from protocol.rules.selection import Offer
from protocol.rules.standing import LAST, has_served, place_of
from protocol.values.ids import PeerId
from protocol.values.limits import BIDS_MAX, DOUBTED_BIDS_MAX
from protocol.wire.job import QUICK

Bidder = TypeVar("Bidder", Commitment, Offer)


def seated(bidders: tuple[Bidder, ...], auction: Auction, context: Context) -> tuple[Bidder, ...]:
    """Return the bidders that have a place: all, or the BIDS_MAX that go first.

    Peers that have served us come before strangers, and peers that broke a promise come last. Among
    equals those come first for which the auction waits; then a lot decides that only we can draw.
    """
    if len(bidders) <= BIDS_MAX:
        return bidders

    def turn(bidder: Bidder) -> tuple[int, bool, bytes]:
        peer = bidder.peer
        is_stranger = peer not in auction.expected
        return _place(peer, context), is_stranger, _lot(peer, auction, context)

    last = max(bidders, key=turn)
    return tuple(bidder for bidder in bidders if bidder is not last)


def welcome(bidders: tuple[Bidder, ...], auction: Auction, context: Context) -> tuple[Bidder, ...]:
    """Return the bidders of good standing; all, if there are no others.

    For a doubted job they are those that have served us: they show whose fault it is. If there are
    none, they are a few by lot: those that take jobs and fail them may ask the least.
    """
    good = tuple(bidder for bidder in bidders if _place(bidder.peer, context) != LAST) or bidders
    if not auction.is_doubted:
        return good
    served = tuple(each for each in good if has_served(context.standing_of(each.peer)))
    by_lot = sorted(good, key=lambda bidder: _lot(bidder.peer, auction, context))
    return served or tuple(by_lot[:DOUBTED_BIDS_MAX])


def in_places(offers: Iterable[Offer], context: Context) -> tuple[Offer, ...]:
    """Return the offers sorted by their bidders' standing; equals keep their order."""
    return tuple(sorted(offers, key=lambda offer: _place(offer.peer, context)))


def bidders_of(state: Opening) -> list[PeerId]:
    """Return who committed or bid, sorted: also those who have not opened their bids."""
    return sorted({bidder.peer for bidder in state.commitments} | {o.peer for o in state.offers})


def unopened(before: State, event: Any) -> set[PeerId]:
    """Return the peers whose commitments are still closed at the end of the window."""
    if not (isinstance(before, Opening) and isinstance(event, DeadlineReached)):
        return set()
    opened = {offer.peer for offer in before.offers}
    return {commitment.peer for commitment in before.commitments} - opened


def in_time(state: State) -> bool:
    """Say whether an answer to the call still counts."""
    return isinstance(state, Calling) or (
        isinstance(state, Opening) and state.auction.call.profile == QUICK
    )


def unanswered(before: State, event: Any) -> set[PeerId]:
    """Return the peers for which an auction waited in vain, at the end of a window."""
    if not (isinstance(before, Calling | Opening) and in_time(before)):
        return set()
    if not isinstance(event, DeadlineReached):
        return set()
    bidders = before.commitments if isinstance(before, Calling) else before.offers
    heard = {bidder.peer for bidder in bidders} | {refused.peer for refused in before.refused}
    return set(before.auction.expected) - heard


def _place(peer: PeerId, context: Context) -> int:
    return place_of(context.standing_of(peer), context.now_ms)


def _lot(peer: PeerId, auction: Auction, context: Context) -> bytes:
    return context.signer.secret(b"lot", auction.call_id + peer.encode())
