"""The requester's side of one auction.

Spec: specs/auction.md.
"""

from protocol.machines.requester.auction.deciding import replacement, supply_of
from protocol.machines.requester.auction.machine import open_auction
from protocol.machines.requester.auction.places import in_time, unanswered, unopened
from protocol.machines.requester.auction.states import (
    Auction,
    Calling,
    Decided,
    Lapsed,
    Lost,
    Opening,
    SoldSlot,
    State,
)
from protocol.machines.requester.auction.table import IGNORED, ILLEGAL, INPUTS, TRANSITIONS

__all__ = [
    "IGNORED", "ILLEGAL", "INPUTS", "TRANSITIONS", "Auction", "Calling", "Decided", "Lapsed",
    "Lost", "Opening", "SoldSlot", "State", "in_time", "open_auction", "replacement", "supply_of",
    "unanswered", "unopened",
]  # fmt: skip
