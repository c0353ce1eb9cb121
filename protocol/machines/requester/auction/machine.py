"""The requester's side of one auction: from the call for bids to an active lease.

Spec: specs/auction.md. Profile V: commitments arrive, the set is closed and signed, bids are
opened, and the best bid wins at the second price. Profile Q: bids arrive open, and the winner is
paid its ask. A winner that declines or falls silent is fenced and the next bid gets the award: no
new call.
"""

from dataclasses import replace

from protocol.machines.context import Context
from protocol.machines.effects import Publish, Save, Send
from protocol.machines.events import CANCELLED
from protocol.machines.inputs import DeadlineReached, JobCancelled
from protocol.machines.requester.auction.deciding import (
    award_next,
    call_off,
    decide,
    fence,
    lose,
    no_bids,
)
from protocol.machines.requester.auction.places import seated, welcome
from protocol.machines.requester.auction.states import (
    Auction,
    Awarding,
    Calling,
    Commitment,
    Confirming,
    Opening,
    Refused,
    State,
    Step,
    Won,
)
from protocol.machines.table import NOTHING, no_later
from protocol.rules.commitment import commitment_of
from protocol.rules.metering import amount_of
from protocol.rules.selection import Offer
from protocol.rules.topics import call_topic
from protocol.values.ids import PeerId
from protocol.values.limits import ACCEPT_MS, ACTIVE_MS, BIDS_MAX
from protocol.values.reasons import Failure, Release
from protocol.wire.envelope import Signed
from protocol.wire.job import QUICK
from protocol.wire.messages import (
    NO_ID,
    AwardAccept,
    AwardDecline,
    BidCommit,
    BidRefusal,
    BidReveal,
    CommitSet,
    LeaseActive,
    LeaseConfirm,
    LeaseRelease,
)


def open_auction(auction: Auction, context: Context) -> Step:
    """Publish the call and wait for commitments, or in Profile Q for bids."""
    call = auction.call
    deadline_ms = context.now_ms + call.commit_ms
    effects = (Publish(call_topic(call), auction.envelope),)
    if call.profile == QUICK:
        return Opening(auction, deadline_ms, NO_ID, (), ()), effects
    return Calling(auction, deadline_ms), effects


def take_commitment(state: Calling, event: Signed[BidCommit], context: Context) -> Step:
    """Store one commitment per provider; close the set when no other node is expected."""
    known = {commitment.peer for commitment in state.commitments}
    unwelcome = {context.signer.peer_id, *state.auction.avoid, *known}
    if event.signer in unwelcome:
        return state, NOTHING
    taken = Commitment(event.signer, event.message.commitment)
    commitments = seated((*state.commitments, taken), state.auction.call_id, context)
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
        return lose(state.auction, Failure.NO_BIDS, no_bids(state.refused))
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
        if Commitment(peer, opened) not in state.commitments:
            return state, NOTHING
    elif peer in {context.signer.peer_id, *state.auction.avoid}:
        return state, NOTHING
    offer = Offer(peer, reveal.bid, event.envelope)
    offers = seated((*state.offers, offer), state.auction.call_id, context)
    return _decide_early(replace(state, offers=offers), context)


def note_late_refusal(state: Opening, event: Signed[BidRefusal], context: Context) -> Step:
    """Record why a provider does not bid; in Profile Q decide when no other node is expected."""
    refused = _refusals(state.refused, event, state.auction)
    return _decide_early(replace(state, refused=refused), context)


def close_bids(state: Opening, event: DeadlineReached, context: Context) -> Step:
    """Decide with the bids that are open."""
    return decide(state, context)


def confirm(state: Awarding, event: Signed[AwardAccept], context: Context) -> Step:
    """Confirm the contract with the winner."""
    if (event.signer, event.message.award) != (state.winner, state.award):
        return state, NOTHING
    amount_max = amount_of(state.rate, state.auction.call.usage_ms_max)
    confirmed = context.signer.sign(LeaseConfirm(state.lease_id, event.content_id, amount_max))
    following = Confirming(state, context.now_ms + ACTIVE_MS, confirmed.content_id)
    return following, (
        Save("auction", state.auction.call_id, following),
        Send(state.winner, confirmed.envelope, following.deadline_ms),
    )


def take_decline(state: Awarding, event: Signed[AwardDecline], context: Context) -> Step:
    """Award the next bid: the winner declined."""
    if (event.signer, event.message.award) != (state.winner, state.award):
        return state, NOTHING
    return award_next(state, context, ())


def pass_over(state: Awarding, event: DeadlineReached, context: Context) -> Step:
    """Fence a winner that did not answer, and award the next bid."""
    return award_next(state, context, (fence(state, context),))


def win(state: Confirming, event: Signed[LeaseActive], context: Context) -> Step:
    """End the auction: the lease is active."""
    awarding = state.awarding
    provider = awarding.winner
    if (event.signer, event.message.contract) != (provider, state.contract):
        return state, NOTHING
    voucher_ms = awarding.ranking.offers[0].bid.voucher_ms
    won = Won(
        awarding.auction, provider, awarding.lease_id, state.contract, awarding.rate, voucher_ms
    )
    return won, (Save("auction", awarding.auction.call_id, None),)


def lose_winner(state: Confirming, event: Signed[LeaseRelease], context: Context) -> Step:
    """Award the next bid: the provider's hold has expired."""
    awarding = state.awarding
    if (event.signer, event.message.lease_id) != (awarding.winner, awarding.lease_id):
        return state, NOTHING
    return award_next(awarding, context, ())


def give_up_winner(state: Confirming, event: DeadlineReached, context: Context) -> Step:
    """Fence a provider that accepted and then fell silent, and award the next bid."""
    return award_next(state.awarding, context, (fence(state.awarding, context),))


def cancel_calling(state: Calling, event: JobCancelled, context: Context) -> Step:
    """Tell the providers that committed that the auction is cancelled."""
    peers = [commitment.peer for commitment in state.commitments]
    return call_off(state.auction, peers, context)


def cancel_opening(state: Opening, event: JobCancelled, context: Context) -> Step:
    """Tell the bidders that the auction is cancelled."""
    peers = {commitment.peer for commitment in state.commitments}
    return call_off(state.auction, sorted(peers | {o.peer for o in state.offers}), context)


def cancel_awarding(state: Awarding, event: JobCancelled, context: Context) -> Step:
    """Release the winner."""
    lost, effects = lose(state.auction, Failure.CANCELLED, CANCELLED)
    return lost, (fence(state, context, Release.CANCELLED), *effects)


def cancel_confirming(state: Confirming, event: JobCancelled, context: Context) -> Step:
    """Release the winner."""
    return cancel_awarding(state.awarding, event, context)


def resume(state: Awarding | Confirming, context: Context) -> State:
    """Resume a decided auction after a restart; its messages are in the outbox."""
    longest_ms = ACTIVE_MS if isinstance(state, Confirming) else ACCEPT_MS
    following: State = no_later(state, longest_ms, context)
    return following


def _close_early(state: Calling, context: Context) -> Step:
    answers = {c.peer for c in state.commitments} | {r.peer for r in state.refused}
    if not _all_answered(state.auction, answers):
        return state, NOTHING
    return close_commitments(state, DeadlineReached(), context)


def _all_answered(auction: Auction, answers: set[PeerId]) -> bool:
    """Return whether all expected nodes have answered; answers of strangers do not count."""
    return bool(auction.expected) and answers.issuperset(auction.expected)


def _close_set(state: Calling, context: Context) -> Step:
    auction = state.auction
    taken = welcome(state.commitments, context)
    digests = tuple(sorted(commitment.digest for commitment in taken))
    closed = context.signer.sign(CommitSet(auction.call_id, digests))
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
    return (*known, Refused(event.signer, event.message.reason))
