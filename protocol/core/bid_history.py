"""What this node answered to calls lately, and how each auction ended, for its owner.

Spec: specs/bids.md. In memory and bounded: strangers cause bids, and unpaid work costs no disk.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import islice
from typing import Final

from protocol.machines.context import Context
from protocol.machines.provider import bidding
from protocol.rules.fraud import Finding, Fraud
from protocol.rules.matching import sentence_of_own_refusal
from protocol.values.ids import CallId, PeerId
from protocol.values.reasons import Refusal
from protocol.values.units import hourly_of_rate
from protocol.wire.envelope import Signed
from protocol.wire.job import Resources
from protocol.wire.messages import Call, Cancel, CommitSet, Outcome, SetCheck

ANSWERS_MAX: Final = 1_000
"""About 0.5 MiB; at the rate of calls that a node answers at most, some minutes."""


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


class BidHistory:
    """The newest answers of this node to calls."""

    def __init__(self) -> None:
        self._answers: dict[CallId, AnsweredCall] = {}

    def newest(self, limit: int) -> Iterable[AnsweredCall]:
        """Yield at most so many answers, the newest first."""
        return islice(reversed(self._answers.values()), limit)

    def answer(
        self, event: Signed[Call], state: bidding.State, reason: Refusal, context: Context
    ) -> None:
        """Note a bid; or, if the bidding is over at once, a refusal and its reason."""
        call_id = CallId(event.content_id)
        refused = AnsweredCall(
            call_id, context.now_ms, event.signer, event.message.resources, 0, BidResult.REFUSED,
            sentence_of_own_refusal(reason), refusal=reason,
        )  # fmt: skip
        if isinstance(state, bidding.Over):
            self._answers[call_id] = refused
        else:
            bid = state.bidding.bid
            self._answers[call_id] = replace(
                refused, ask=bid.ask, slots=bid.slots, result=BidResult.OPEN, refusal=None,
                why="the auction has not ended",
            )  # fmt: skip
        if len(self._answers) > ANSWERS_MAX:
            del self._answers[next(iter(self._answers))]

    def hear(self, event: Signed[CommitSet | SetCheck | Outcome | Cancel], own: PeerId) -> None:
        """Note how an auction ended, if its requester says so."""
        message = event.message
        known = self._answers.get(message.call_id)
        if known is None or known.result is not BidResult.OPEN or event.signer != known.requester:
            return
        match message:
            case Cancel():
                self._end(known, BidResult.CANCELLED, "the requester cancelled its auction")
            case Outcome(winners=()):
                self._end(known, BidResult.UNSOLD, "nobody won")
            case Outcome(winners=winners, clearing=rate):
                won = sum(winner.slots for winner in winners if winner.peer == own)
                result = BidResult.WON if won else BidResult.LOST
                known = replace(known, winner=winners[0].peer)
                self._end(known, result, _why(known, won, rate), rate)

    def award(self, call_id: CallId, rate: int) -> None:
        """Note that an award became a lease."""
        if known := self._answers.get(call_id):
            passed = known.result is not BidResult.WON and known.result is not BidResult.OPEN
            why = "an award passed on to us" if passed else "an award became a lease"
            self._answers[call_id] = replace(
                known, result=BidResult.WON, why=why, price=rate, awards=known.awards + 1
            )

    def accuse(self, finding: Finding) -> None:
        """Note that we can prove a fraud of the requester."""
        if known := self._answers.get(finding.call_id):
            known = replace(known, fraud=finding.fraud)
            self._end(known, BidResult.CHEATED, finding.why, known.price)

    def forget(self, call_id: CallId) -> None:
        """Note that we no longer wait for the end of an auction."""
        known = self._answers.get(call_id)
        if known and known.result is BidResult.OPEN:
            self._end(known, BidResult.SILENT, "the requester did not say how it ended")

    def _end(self, known: AnsweredCall, result: BidResult, why: str, price: int = 0) -> None:
        self._answers[known.call_id] = replace(known, result=result, why=why, price=price)


def _why(known: AnsweredCall, won: int, rate: int) -> str:
    paid, asked = hourly_of_rate(rate), hourly_of_rate(known.ask)
    if won:
        return f"won {won} slot{'' if won == 1 else 's'}"
    if rate == known.ask:  # In Profile V, the best losing bid sets the price.
        return f"another bidder came first, and is paid what was asked here: {asked}"
    if rate < known.ask:
        return f"another bid was lower: {paid} is paid, {asked} was asked"
    return f"another bidder ranked better, though {asked} is below the {paid} paid: see standing"
