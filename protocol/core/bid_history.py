"""What this node answered to calls lately, and how each auction ended, for its owner.

Spec: specs/bids.md. The newest answers are in memory, because their auctions may still end; the
node stores what changes (the effect `Note`), and more of them.
"""

from dataclasses import replace
from typing import Final

from protocol.machines.answers import AnsweredCall, BidResult
from protocol.machines.context import Context
from protocol.machines.effects import Effect, Note
from protocol.machines.provider import bidding
from protocol.rules.fraud import Finding
from protocol.rules.matching import sentence_of_own_refusal
from protocol.values.bounded import keep_newest
from protocol.values.ids import CallId, PeerId
from protocol.values.reasons import Refusal
from protocol.values.units import hourly_of_rate
from protocol.wire.envelope import Signed
from protocol.wire.messages import Call, Cancel, CommitSet, Outcome, SetCheck

ANSWERS_MAX: Final = 1_000
"""About 0.5 MiB; at the rate of calls that a node answers at most, some minutes."""
SILENT: Final = "the requester did not say how it ended"


class BidHistory:
    """The newest answers of this node to calls."""

    def __init__(self) -> None:
        self.answers: dict[CallId, AnsweredCall] = {}
        """By call, the newest last."""
        self._changed: dict[CallId, None] = {}

    def take_notes(self) -> list[Effect]:
        """Return a note of each answer that is new or has changed since the last time."""
        changed, self._changed = self._changed, {}
        return [Note(self.answers[call_id]) for call_id in changed if call_id in self.answers]

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
            self._set(refused)
        else:
            bid = state.bidding.bid
            opened = replace(
                refused, ask=bid.ask, slots=bid.slots, result=BidResult.OPEN, refusal=None,
                why="the auction has not ended",
            )  # fmt: skip
            self._set(opened)
        keep_newest(self.answers, ANSWERS_MAX)

    def hear(self, event: Signed[CommitSet | SetCheck | Outcome | Cancel], own: PeerId) -> None:
        """Note how an auction ended, if its requester says so."""
        message = event.message
        known = self.answers.get(message.call_id)
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
        if known := self.answers.get(call_id):
            passed = known.result is not BidResult.WON and known.result is not BidResult.OPEN
            why = "an award passed on to us" if passed else "an award became a lease"
            awards = known.awards + 1
            self._set(replace(known, result=BidResult.WON, why=why, price=rate, awards=awards))

    def accuse(self, finding: Finding) -> None:
        """Note that we can prove a fraud of the requester."""
        if known := self.answers.get(finding.call_id):
            known = replace(known, fraud=finding.fraud)
            self._end(known, BidResult.CHEATED, finding.why, known.price)

    def forget(self, call_id: CallId, why: str = SILENT) -> None:
        """Note that we no longer wait for the end of an auction, and why."""
        known = self.answers.get(call_id)
        if known and known.result is BidResult.OPEN:
            self._end(known, BidResult.SILENT, why)

    def _end(self, known: AnsweredCall, result: BidResult, why: str, price: int = 0) -> None:
        self._set(replace(known, result=result, why=why, price=price))

    def _set(self, answered: AnsweredCall) -> None:
        self.answers[answered.call_id] = answered
        self._changed[answered.call_id] = None


def _why(known: AnsweredCall, won: int, rate: int) -> str:
    paid, asked = hourly_of_rate(rate), hourly_of_rate(known.ask)
    if won:
        return f"won {won} slot{'' if won == 1 else 's'}"
    if rate == known.ask:  # In Profile V, the best losing bid sets the price.
        return f"another bidder came first, and is paid what was asked here: {asked}"
    if rate < known.ask:
        return f"another bid was lower: {paid} is paid, {asked} was asked"
    return f"another bidder ranked better, though {asked} is below the {paid} paid: see standing"
