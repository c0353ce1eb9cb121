"""A11, A12: no bid is opened before the requester has closed the set, and it says nothing before.

Spec: specs/auction.md#commitments.
"""

from collections.abc import Iterator
from typing import Final

from protocol.rules.commitment import commitment_of
from protocol.values.ids import CallId
from protocol.wire.envelope import Signed
from protocol.wire.job import QUICK
from protocol.wire.messages import Award, BidReveal, Call, CommitSet, Outcome
from tests.faults.history import Sent
from tests.faults.network import FaultyNetwork

NAME: Final = "A11 sealed until the set is closed"


def at_end(network: FaultyNetwork) -> Iterator[str]:
    calls: dict[CallId, Call] = {}
    sets: dict[CallId, Signed[CommitSet]] = {}
    for fact in network.history.sent:
        match fact.signed.message:
            case Call() as call:
                calls[CallId(fact.signed.content_id)] = call
            case CommitSet(call_id):
                sets[call_id] = fact.signed
            case BidReveal(call_id) if calls[call_id].profile != QUICK:
                if not _is_in(fact, sets.get(call_id)):
                    yield "a bid was opened outside its set"
            case Outcome(call_id) | Award(call_id) if calls[call_id].profile != QUICK:
                if call_id not in sets:
                    yield "a decision before the set"


def _is_in(fact: Sent, closed: Signed[CommitSet] | None) -> bool:
    reveal = fact.signed.message
    assert isinstance(reveal, BidReveal)
    own = commitment_of(reveal.call_id, fact.node, reveal.bid, reveal.nonce)
    return closed is not None and (
        reveal.commit_set == closed.content_id and own in closed.message.commitments
    )
