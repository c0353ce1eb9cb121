"""The requester's side of one auction: from the call for bids to the sale of slots.

Spec: specs/auction.md. Profile V: commitments arrive, the set is closed and signed, bids are
opened, and the best bids win at the price of the best losing bid. Profile Q: bids arrive open, and
each winner is paid its ask. Awards follow in a machine of their own.
"""

from dataclasses import replace

from protocol.machines.context import Context
from protocol.machines.effects import Publish, Send
from protocol.machines.inputs import DeadlineReached, JobCancelled
from protocol.machines.requester.auction.deciding import call_off, decide, lose_without_bids
from protocol.machines.requester.auction.places import bidders_of, seated, welcome
from protocol.machines.requester.auction.states import (
    Auction,
    Calling,
    Commitment,
    Decided,
    Lapsed,
    Opening,
    Refused,
    Step,
)
from protocol.machines.table import NOTHING
from protocol.rules.commitment import commitment_of
from protocol.rules.selection import Offer
from protocol.rules.standing import weight_of
from protocol.rules.start_promise import weight_with_start
from protocol.rules.topics import call_topic
from protocol.values.ids import PeerId
from protocol.values.limits import BIDS_MAX
from protocol.wire.envelope import Signed
from protocol.wire.job import QUICK
from protocol.wire.messages import NO_ID, BidCommit, BidRefusal, BidReveal, CommitSet


def open_auction(auction: Auction, context: Context) -> Step:
    """Publish the call and wait for commitments, or in Profile Q for bids."""
    call = auction.call
    deadline_ms = context.now_ms + call.commit_ms
    effects = (Publish(call_topic(call), auction.envelope),)
    if call.profile == QUICK:
        return Opening(auction, deadline_ms, NO_ID, (), ()), effects
    return Calling(auction, deadline_ms), effects


def take_commitment(state: Calling, event: Signed[BidCommit], context: Context) -> Step:
    """Store one commitment per provider; close the set when no other node is expected.

    A set has each commitment once: who repeats another's could not open it anyway.
    """
    known = {commitment.peer for commitment in state.commitments}
    unwelcome = {context.signer.peer_id, *state.auction.avoid, *known}
    repeated = event.message.commitment in {each.digest for each in state.commitments}
    if event.signer in unwelcome or repeated:
        return state, NOTHING
    taken = Commitment(event.signer, event.message.commitment)
    commitments = seated((*state.commitments, taken), state.auction, context)
    return _close_early(replace(state, commitments=commitments), context)


def note_refusal(state: Calling, event: Signed[BidRefusal], context: Context) -> Step:
    """Record why a provider does not bid; close the set when no other node is expected."""
    refused = _refusals(state.refused, event, state.auction)
    return _close_early(replace(state, refused=refused), context)


def close_commitments(state: Calling, event: DeadlineReached, context: Context) -> Step:
    """Close the set. If nobody committed, publish the call once more, and then give up."""
    if state.commitments:
        return _close_set(state, context)
    refused = {refusal.peer for refusal in state.refused}
    if state.extended or _all_answered(state.auction, refused):
        return lose_without_bids(state.auction, state.refused), NOTHING
    longer = replace(
        state, extended=True, deadline_ms=context.now_ms + state.auction.call.commit_ms
    )
    return longer, (Publish(call_topic(state.auction.call), state.auction.envelope),)


def take_bid(state: Opening, event: Signed[BidReveal], context: Context) -> Step:
    """Store a bid that opens its commitment; decide when all are open."""
    reveal, peer = event.message, event.signer
    if any(offer.peer == peer for offer in state.offers) or reveal.commit_set != state.commit_set:
        return state, NOTHING
    if state.auction.call.profile != QUICK:
        opened = commitment_of(reveal.call_id, peer, reveal.bid, reveal.nonce)
        weights = {(c.peer, c.digest): c.weight for c in state.commitments}
        if (peer, opened) not in weights:
            return state, NOTHING
        weight = weights[peer, opened]
    elif peer in {context.signer.peer_id, *state.auction.avoid}:
        return state, NOTHING
    else:
        weight = weight_of(context.standing_of(peer), context.now_ms)
    weight = weight_with_start(weight, reveal.bid, state.auction.call)
    offer = Offer(peer, reveal.bid, event.envelope, weight, event.content_id)
    offers = seated((*state.offers, offer), state.auction, context)
    return _decide_early(replace(state, offers=offers), context)


def note_late_refusal(state: Opening, event: Signed[BidRefusal], context: Context) -> Step:
    """Record why a provider does not bid; in Profile Q decide when no other node is expected."""
    refused = _refusals(state.refused, event, state.auction)
    return _decide_early(replace(state, refused=refused), context)


def close_bids(state: Opening, event: DeadlineReached, context: Context) -> Step:
    """Decide with the bids that are open."""
    return decide(state, context)


def lapse(state: Decided, event: DeadlineReached, context: Context) -> Step:
    """End the auction: its bids are too old to be awarded."""
    return Lapsed(state.auction), NOTHING


def cancel_calling(state: Calling, event: JobCancelled, context: Context) -> Step:
    """Tell the providers that committed that the auction is cancelled."""
    peers = [commitment.peer for commitment in state.commitments]
    return call_off(state.auction, peers, context)


def cancel_opening(state: Opening, event: JobCancelled, context: Context) -> Step:
    """Tell the bidders that the auction is cancelled."""
    return call_off(state.auction, bidders_of(state), context)


def _close_early(state: Calling, context: Context) -> Step:
    answers = {c.peer for c in state.commitments} | {r.peer for r in state.refused}
    if not _all_answered(state.auction, answers):
        return state, NOTHING
    return close_commitments(state, DeadlineReached(), context)


def _all_answered(auction: Auction, answers: set[PeerId]) -> bool:
    """Return whether all expected nodes have answered; answers of strangers do not count."""
    return bool(auction.expected) and answers.issuperset(auction.expected)


def _close_set(state: Calling, context: Context) -> Step:
    auction, bidders = state.auction, state.commitments
    if not auction.call.gang:  # How many slots a gang would find without the others, nobody knows.
        bidders = welcome(bidders, auction, context)
    taken = tuple(
        replace(c, weight=weight_of(context.standing_of(c.peer), context.now_ms)) for c in bidders
    )
    ordered = sorted(taken, key=lambda commitment: commitment.digest)
    digests, weights = tuple(c.digest for c in ordered), tuple(c.weight for c in ordered)
    closed = context.signer.sign(CommitSet(auction.call_id, digests, weights))
    deadline_ms = context.now_ms + auction.call.reveal_ms
    opening = Opening(auction, deadline_ms, closed.content_id, taken, state.refused)
    # After a crash of ours this call is never decided, so nobody needs the set.
    sends = (Send(c.peer, closed.envelope, deadline_ms, durable=False) for c in taken)
    return opening, tuple(sends)


def _decide_early(state: Opening, context: Context) -> Step:
    if state.auction.call.profile == QUICK:
        answers = {o.peer for o in state.offers} | {r.peer for r in state.refused}
        complete = _all_answered(state.auction, answers)
    else:
        complete = len(state.offers) == len(state.commitments)
    return decide(state, context) if complete else (state, NOTHING)


def _refusals(
    known: tuple[Refused, ...], event: Signed[BidRefusal], auction: Auction
) -> tuple[Refused, ...]:
    # Refusals of strangers must not displace those of the nodes that we wait for.
    full = len(known) >= BIDS_MAX and event.signer not in auction.expected
    if full or any(item.peer == event.signer for item in known):
        return known
    return (*known, Refused(event.signer, event.message.reason, event.message.free_ms))
