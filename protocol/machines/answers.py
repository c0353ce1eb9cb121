"""A call that this node answered as a provider, and how its auction ended, for the owner.

Spec: specs/bids.md.
"""

from dataclasses import dataclass
from enum import StrEnum

from protocol.rules.fraud import Fraud
from protocol.values.ids import CallId, PeerId
from protocol.values.reasons import Refusal
from protocol.wire.job import Resources


class BidResult(StrEnum):
    """How an auction ended for this node."""

    OPEN = "open"
    REFUSED = "refused"
    WON = "won"
    LOST = "lost"
    UNSOLD = "unsold"
    CANCELLED = "cancelled"
    SILENT = "silent"
    CHEATED = "cheated"


@dataclass(frozen=True, slots=True)
class AnsweredCall:
    """One call that this node answered. `ask` is 0 for a refusal; rates are for one slot."""

    call_id: CallId
    at_ms: int
    requester: PeerId
    resources: Resources
    ask: int
    result: BidResult
    why: str
    price: int = 0
    """The rate that the first winner is paid, or what an award pays us; 0 if unknown."""
    slots: int = 0
    """The slots that this node offered; 0 for a refusal."""
    refusal: Refusal | None = None
    winner: PeerId | None = None
    """The first winner, as the requester says; None if unknown."""
    awards: int = 0
    """The leases that this node got."""
    fraud: Fraud | None = None
    """The fraud of the requester that this node can prove."""
