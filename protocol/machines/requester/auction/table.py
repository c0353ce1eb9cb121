"""The table of an auction, as its requester sees it.

Spec: specs/machines.md#auction.
"""

from typing import Final

from protocol.machines.inputs import DeadlineReached, JobCancelled
from protocol.machines.requester.auction.machine import (
    cancel_awarding,
    cancel_calling,
    cancel_confirming,
    cancel_opening,
    close_bids,
    close_commitments,
    confirm,
    give_up_winner,
    lose_winner,
    note_late_refusal,
    note_refusal,
    pass_over,
    take_bid,
    take_commitment,
    take_decline,
    win,
)
from protocol.machines.requester.auction.states import (
    Awarding,
    Calling,
    Confirming,
    Lost,
    Opening,
    Won,
)
from protocol.machines.table import Groups, Transitions, pairs
from protocol.wire.messages import (
    AwardAccept,
    AwardDecline,
    BidCommit,
    BidRefusal,
    BidReveal,
    LeaseActive,
    LeaseRelease,
)

TRANSITIONS: Final[Transitions] = {
    (Calling, BidCommit): take_commitment,
    (Calling, BidRefusal): note_refusal,
    (Calling, DeadlineReached): close_commitments,
    (Calling, JobCancelled): cancel_calling,
    (Opening, BidReveal): take_bid,
    (Opening, BidRefusal): note_late_refusal,
    (Opening, DeadlineReached): close_bids,
    (Opening, JobCancelled): cancel_opening,
    (Awarding, AwardAccept): confirm,
    (Awarding, AwardDecline): take_decline,
    (Awarding, DeadlineReached): pass_over,
    (Awarding, JobCancelled): cancel_awarding,
    (Confirming, LeaseActive): win,
    (Confirming, LeaseRelease): lose_winner,
    (Confirming, DeadlineReached): give_up_winner,
    (Confirming, JobCancelled): cancel_confirming,
}
INPUTS: Final = (
    BidCommit, BidRefusal, BidReveal, AwardAccept, AwardDecline, LeaseActive, LeaseRelease,
    DeadlineReached, JobCancelled,
)  # fmt: skip
IGNORED: Final[Groups] = {
    "late or repeated: the auction has moved on": (
        pairs({Opening}, {BidCommit})
        | pairs({Awarding, Confirming}, {BidCommit, BidRefusal, BidReveal})
        | pairs({Confirming}, {AwardAccept})
    ),
    "the winner has given its lease back: its accept is still on its way": (
        pairs({Awarding}, {LeaseRelease})
    ),
    "the winner has given its lease back, and then had the award again: its release comes too": (
        pairs({Confirming}, {AwardDecline})
    ),
    "the auction has ended": pairs({Won, Lost}, INPUTS),
}
ILLEGAL: Final[Groups] = {
    "no bid is opened before the set is closed": pairs({Calling}, {BidReveal}),
    "nobody has an award": (
        pairs({Calling, Opening}, {AwardAccept, AwardDecline, LeaseActive, LeaseRelease})
    ),
    "no lease is active before it is confirmed": pairs({Awarding}, {LeaseActive}),
}
