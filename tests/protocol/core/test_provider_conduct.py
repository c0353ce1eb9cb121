"""What a provider concludes from a requester's conduct in an auction: proofs, refusals, asks.

Spec: specs/standing.md#conduct.
"""

from dataclasses import replace
from typing import Any

import pytest

from protocol.core.candidates import Candidates
from protocol.core.core import Core, Saved
from protocol.core.directory import Directory
from protocol.core.provider import Provider
from protocol.core.standings import Standings
from protocol.machines.context import Context
from protocol.machines.effects import Accuse, Effect
from protocol.machines.inputs import DeadlineReached
from protocol.rules.fraud import Fraud, verify
from protocol.values.ids import CallId, PeerId
from protocol.values.limits import ABORT_MS, ABORTS_MAX, ABORTS_MS, BARRED_MS
from protocol.values.reasons import Decline, Refusal
from protocol.wire.envelope import Signed
from protocol.wire.job import VICKREY
from protocol.wire.messages import (
    NO_LOSER,
    AwardAccept,
    AwardDecline,
    BidCommit,
    BidRefusal,
    Call,
    Cancel,
    CommitSet,
    Outcome,
    Winner,
)
from tests.driven import POLICY, START_MS
from tests.protocol.core.test_provider import (
    AMY,
    ANN,
    CONTEXT,
    EVE,
    OUTCOME,
    award_of,
    call,
    said,
)
from tests.strategies import SIGNERS


class Auctioned:
    """A provider whose bid is open in an auction of its own."""

    def __init__(self, number: int = 0) -> None:
        self.standings = Standings()
        candidates = Candidates(Directory(), self.standings)
        self.provider = Provider(candidates, self.standings, {}, {})
        self.open(number)

    def open(self, number: int, ms: int = 0) -> None:
        """Let it open its bid in another auction, which begins after so many milliseconds."""
        context = self.context(ms)
        self.called: Signed[Call] = call(profile=VICKREY, reveal_ms=900, nonce=bytes([number]) * 16)
        self.call_id = CallId(self.called.content_id)
        (commit,) = said(self.provider.hear(self.called, context))
        assert isinstance(commit, BidCommit)
        self.closed = ANN.sign(CommitSet(self.call_id, (commit.commitment,)))
        self.provider.hear(self.closed, context)

    def context(self, ms: int = 0) -> Context:
        return replace(CONTEXT, now_ms=START_MS + ms, standing_of=self.standings.of)

    def outcome(self, *winners: Winner, **more: Any) -> Signed[Outcome]:
        told = Outcome(self.call_id, self.closed.content_id, winners, 9_000, (0,), NO_LOSER)
        return ANN.sign(replace(told, **more))

    def hear(self, message: Signed[Any], ms: int = 0) -> list[Effect]:
        return self.provider.hear(message, self.context(ms))

    def abort(self, ms: int = 0) -> None:
        self.hear(ANN.sign(Cancel(self.call_id)), ms)

    def answer(self, who: Any = ANN, ms: int = 0) -> Refusal | None:
        """Return how it refuses a call; None if it bids."""
        (answer,) = said(self.hear(call(who, nonce=bytes([99]) * 16), ms))
        return Refusal(answer.reason) if isinstance(answer, BidRefusal) else None


def accused(effects: list[Effect]) -> list[Fraud]:
    found = [effect for effect in effects if isinstance(effect, Accuse)]
    assert all(verify(each.proof) == each.finding for each in found)
    return [each.finding.fraud for each in found]


def newest(provider: Provider) -> Any:
    return list(provider.bids.answers.values())[-1]


def test_who_says_that_our_bid_lost_to_nobody_is_accused_and_refused() -> None:
    ours = Auctioned()
    effects = ours.hear(ours.outcome(Winner(EVE.peer_id, 1)))
    assert accused(effects) == [Fraud.WRONGLY_LOST]
    assert (newest(ours.provider).result, newest(ours.provider).fraud) == (
        "cheated", Fraud.WRONGLY_LOST,
    )  # fmt: skip
    assert not ours.provider.biddings, "one auction costs one proof"
    assert ours.hear(ours.outcome()) == []
    assert newest(ours.provider).why.startswith("the bid counts and has slots left")
    issued_ms = ours.called.message.issued_ms
    assert ours.standings.of(ANN.peer_id).barred_until_ms == issued_ms + BARRED_MS
    assert ours.answer() is Refusal.CONDUCT
    assert ours.answer(AMY) is None, "others are not concerned"
    assert ours.answer(ms=BARRED_MS) is None


def test_a_wrong_award_is_declined_and_proven() -> None:
    ours = Auctioned()
    wrong = award_of(ours.called, rate=8_999, closed=ours.closed, provider=ours.provider)
    effects = ours.hear(wrong)
    assert accused(effects) == [Fraud.WRONG_PRICE]
    (decline,) = said(effects)
    assert isinstance(decline, AwardDecline)
    assert decline.reason == Decline.EVIDENCE
    right = award_of(ours.called, rate=9_000, closed=ours.closed)
    (decline,) = said(ours.hear(right))
    assert isinstance(decline, AwardDecline), "it is not served any more"


def test_two_outcomes_are_proven_whichever_comes_first() -> None:
    own = Winner(SIGNERS[0].peer_id, 1)
    ours = Auctioned()
    award = award_of(ours.called, rate=9_000, closed=ours.closed, provider=ours.provider)
    (accept,) = said(ours.hear(award))
    assert isinstance(accept, AwardAccept)
    assert accused(ours.hear(ours.outcome(own, clearing=1))) == [Fraud.EQUIVOCATION]
    other = Auctioned()
    other.hear(other.outcome(own, clearing=1))
    award = award_of(other.called, rate=9_000, closed=other.closed, provider=other.provider)
    assert accused(other.hear(award)) == [Fraud.EQUIVOCATION]


def test_a_fair_auction_accuses_nobody() -> None:
    ours = Auctioned()
    told = ours.outcome(Winner(SIGNERS[0].peer_id, 1))
    award = award_of(ours.called, rate=9_000, closed=ours.closed, provider=ours.provider)
    effects = [*ours.hear(told), *ours.hear(award), *ours.hear(told), *ours.hear(ours.closed)]
    assert accused(effects) == []
    assert ours.standings.of(ANN.peer_id).barred_until_ms == 0


def test_after_a_restart_the_proofs_on_the_disk_still_bar() -> None:
    ours = Auctioned()
    (accusation,) = [
        effect for effect in ours.hear(ours.outcome(Winner(EVE.peer_id, 1)))
        if isinstance(effect, Accuse)
    ]  # fmt: skip
    core = Core(SIGNERS[0], POLICY)
    core.recover(Saved(proven=(accusation.finding,)), POLICY, START_MS)
    assert core.standings.of(ANN.peer_id).barred_until_ms == START_MS + BARRED_MS


# Aborts.


def test_one_abort_is_forgiven_after_an_hour_and_refuses_nobody() -> None:
    ours = Auctioned()
    ours.abort()
    assert ours.standings.of(ANN.peer_id).aborts == (START_MS,)
    assert ours.answer() is None


def test_a_crash_that_aborts_many_auctions_counts_once() -> None:
    ours = Auctioned()
    for number in range(1, 8):
        ours.open(number)
    over = max(state.deadline_ms for state in ours.provider.biddings.values())
    ours.provider.handle(DeadlineReached(), replace(ours.context(), now_ms=over))
    assert ours.standings.of(ANN.peer_id).aborts == (over,)


def test_aborts_in_three_hours_of_a_day_refuse_until_the_first_is_a_day_old() -> None:
    ours = Auctioned()
    for number in range(ABORTS_MAX):
        ours.open(number + 1, number * ABORT_MS)
        ours.abort(number * ABORT_MS)
    last_ms = (ABORTS_MAX - 1) * ABORT_MS
    assert ours.answer(ms=last_ms) is Refusal.CONDUCT
    assert ours.answer(ms=ABORTS_MS - 1) is Refusal.CONDUCT
    assert ours.answer(ms=ABORTS_MS) is None


@pytest.mark.parametrize("ending", ["outcome", "not yet opened", "cancelled by another"])
def test_other_ends_are_no_aborts(ending: str) -> None:
    ours = Auctioned()
    match ending:
        case "outcome":
            ours.hear(ours.outcome(losing_score=0))
            ours.provider.handle(DeadlineReached(), ours.context(60_000))
        case "not yet opened":
            called = call(AMY, profile=VICKREY, reveal_ms=900)
            ours.hear(called)
            ours.hear(AMY.sign(Cancel(CallId(called.content_id))))
        case _:
            ours.hear(EVE.sign(Cancel(ours.call_id)))
    for who in (ANN, AMY, EVE):
        assert ours.standings.of(PeerId(who.peer_id)).aborts == ()


def test_an_award_of_an_auction_that_we_bid_in_before_a_crash_proves_nothing() -> None:
    """It is for another bid than ours: it is declined, and nobody is accused."""
    ours = Auctioned()
    stale = award_of(ours.called, rate=1, closed=ours.closed, provider=ours.provider)
    other = ANN.sign(replace(stale.message, bid=bytes(32)))
    effects = ours.hear(other)
    (decline,) = said(effects)
    assert isinstance(decline, AwardDecline)
    assert (decline.reason, accused(effects)) == (Decline.POLICY, [])
    assert OUTCOME.losing_score == NO_LOSER
