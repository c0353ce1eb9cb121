"""The requester's side of one auction.

Spec: specs/auction.md.
"""

from protocol.machines.requester.auction.machine import open_auction, resume
from protocol.machines.requester.auction.places import faults, in_time, unanswered
from protocol.machines.requester.auction.states import (
    Auction,
    Awarding,
    Calling,
    Confirming,
    Lost,
    Opening,
    State,
    Won,
    auction_of,
    lease_of,
)
from protocol.machines.requester.auction.table import IGNORED, ILLEGAL, INPUTS, TRANSITIONS

__all__ = [
    "IGNORED", "ILLEGAL", "INPUTS", "TRANSITIONS", "Auction", "Awarding", "Calling", "Confirming",
    "Lost", "Opening", "State", "Won", "auction_of", "faults", "in_time", "lease_of",
    "open_auction", "resume", "unanswered",
]  # fmt: skip
