"""The table of an auction, as its requester sees it.

Spec: specs/machines.md#auction.
"""

from typing import Final

from protocol.machines.inputs import DeadlineReached, JobCancelled
from protocol.machines.requester.auction.machine import (
    cancel_calling,
    cancel_opening,
    close_bids,
    close_commitments,
    lapse,
    note_late_refusal,
    note_refusal,
    take_bid,
    take_commitment,
)
from protocol.machines.requester.auction.states import Calling, Decided, Lapsed, Lost, Opening
from protocol.machines.table import Groups, Transitions, pairs
from protocol.wire.messages import BidCommit, BidRefusal, BidReveal

TRANSITIONS: Final[Transitions] = {
    (Calling, BidCommit): take_commitment,
    (Calling, BidRefusal): note_refusal,
    (Calling, DeadlineReached): close_commitments,
    (Calling, JobCancelled): cancel_calling,
    (Opening, BidReveal): take_bid,
    (Opening, BidRefusal): note_late_refusal,
    (Opening, DeadlineReached): close_bids,
    (Opening, JobCancelled): cancel_opening,
    (Decided, DeadlineReached): lapse,
}
INPUTS: Final = (BidCommit, BidRefusal, BidReveal, DeadlineReached, JobCancelled)
IGNORED: Final[Groups] = {
    "late or repeated: the auction has moved on": (
        pairs({Opening}, {BidCommit}) | pairs({Decided}, {BidCommit, BidRefusal, BidReveal})
    ),
    "the job's award ends, not the auction: its slots carry other jobs": (
        pairs({Decided}, {JobCancelled})
    ),
    "the auction has ended": pairs({Lapsed, Lost}, INPUTS),
}
ILLEGAL: Final[Groups] = {
    "no bid is opened before the set is closed": pairs({Calling}, {BidReveal}),
}
