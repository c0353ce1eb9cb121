"""What a provider remembers of its answers to calls, and how each auction ended.

Spec: specs/bids.md.
"""

from dataclasses import replace
from typing import Any

import pytest

from protocol.core import bid_history as module
from protocol.core.core import Core
from protocol.core.provider import Provider
from protocol.machines.answers import AnsweredCall
from protocol.machines.effects import Note
from protocol.machines.inputs import DeadlineReached, PolicyChanged
from protocol.values.egress import class_of
from protocol.values.ids import CallId
from protocol.values.reasons import Refusal
from protocol.wire.envelope import Signed
from protocol.wire.job import Resources
from protocol.wire.messages import NO_ID, Call, Cancel, Outcome, Winner
from tests.protocol.core.test_provider import ANN, CONTEXT, EVE, award_of, call, fresh, later, won

OWN, OTHER = CONTEXT.signer.peer_id, EVE.peer_id


def ended(called: Signed[Call], *winners: Winner, rate: int = 2_900, who: Any = ANN) -> Signed[Any]:
    return who.sign(Outcome(CallId(called.content_id), NO_ID, winners, rate, (), rate))


def only(provider: Provider) -> AnsweredCall:
    (answered,) = provider.bids.answers.values()
    return answered


def bidding() -> tuple[Provider, Signed[Call]]:
    provider, called = fresh(), call()
    provider.hear(called, CONTEXT)
    assert (only(provider).result, only(provider).ask) == ("open", 3_000)
    assert (only(provider).slots, only(provider).refusal) == (1, None)
    assert only(provider).requester == ANN.peer_id
    return provider, called


@pytest.mark.parametrize(
    "winners, rate, result, why",
    [
        ((Winner(OTHER, 1),), 2_900, "lost", "another bid was lower: 0.0104 is paid, 0.0108 was"),
        ((Winner(OTHER, 1),), 3_000, "lost", "another bidder came first, and is paid what"),
        ((Winner(OTHER, 1),), 3_100, "lost", "another bidder ranked better, though 0.0108 is"),
        ((Winner(OTHER, 1), Winner(OWN, 2)), 3_000, "won", "won 2 slots"),
        ((), 0, "unsold", "nobody won"),
    ],
)
def test_an_outcome_ends_a_bid_once(
    winners: tuple[Winner, ...], rate: int, result: str, why: str
) -> None:
    provider, called = bidding()
    provider.hear(ended(called, Winner(OTHER, 1), who=EVE), CONTEXT)
    assert only(provider).result == "open", "only the requester says how its auction ended"
    provider.hear(ended(called, *winners, rate=rate), CONTEXT)
    assert (only(provider).result, only(provider).price) == (result, rate)
    assert only(provider).winner == (OTHER if winners else None)
    assert only(provider).why.startswith(why)
    provider.hear(ended(called, *winners, rate=rate), CONTEXT)
    assert only(provider).result == result


def test_a_cancelled_and_a_silent_auction() -> None:
    provider, called = bidding()
    provider.hear(ANN.sign(Cancel(CallId(called.content_id))), CONTEXT)
    assert only(provider).result == "cancelled"
    silent, _ = bidding()
    silent.handle(DeadlineReached(), later(60_000))
    assert only(silent).result == "silent"


def test_an_award_is_a_win_even_after_a_loss() -> None:
    provider = fresh()
    won(provider, rate=3_000)
    assert (only(provider).result, only(provider).awards) == ("won", 1)
    assert (only(provider).price, only(provider).why) == (3_000, "an award became a lease")
    later_win, called = bidding()
    told = ended(called, Winner(OTHER, 1))
    later_win.hear(told, CONTEXT)
    later_win.hear(award_of(called, outcome=told.envelope, offer=1), CONTEXT)
    assert (only(later_win).result, only(later_win).why) == ("won", "an award passed on to us")


def test_refusals_and_their_reasons() -> None:
    provider = fresh()
    provider.hear(call(rate_max=1), CONTEXT)
    assert (only(provider).result, only(provider).ask) == ("refused", 0)
    assert (only(provider).slots, only(provider).refusal) == (0, Refusal.PRICE)
    assert only(provider).why == "this node asks more than the job may cost"
    closed = fresh()
    listed = replace(CONTEXT, policy=replace(CONTEXT.policy, egress=("a.org",)))
    closed.hear(call(egress=class_of(("b.org",))), listed)
    assert (only(closed).refusal, only(closed).slots) == (Refusal.EGRESS, 0)
    assert "egress_names" in only(closed).why
    closed.hear(call(egress=class_of(("any",))), listed)  # Its record says so: no answer.
    assert only(closed).refusal is Refusal.EGRESS
    busy = fresh()
    won(busy)
    busy.hear(call(nonce=b"2" * 16), CONTEXT)
    newest = list(busy.bids.answers.values())[-1]
    assert (newest.result, newest.why) == ("refused", "this node was busy with other jobs")


def test_calls_that_get_no_answer_are_not_remembered() -> None:
    provider = fresh()
    provider.hear(call(resources=Resources(5)), CONTEXT)
    assert not provider.bids.answers


def test_only_the_newest_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWERS_MAX", 2)
    provider = fresh()
    for number in range(3):
        provider.hear(call(nonce=bytes([number]) * 16), later(number))
    times = [answered.at_ms for answered in provider.bids.answers.values()]
    assert times == [later(1).now_ms, later(2).now_ms]
    noted = [note.answered.at_ms for note in provider.bids.take_notes() if isinstance(note, Note)]
    assert noted == times, "nothing is noted of what was forgotten meanwhile"


def test_each_change_is_noted_once() -> None:
    core = Core(CONTEXT.signer, CONTEXT.policy)
    core.handle(PolicyChanged(CONTEXT.policy), CONTEXT.now_ms)
    called = call()
    noted = [effect for effect in core.handle(called, CONTEXT.now_ms) if isinstance(effect, Note)]
    assert [note.answered.result for note in noted] == ["open"]
    told = core.handle(ended(called, Winner(OTHER, 1)), CONTEXT.now_ms)
    noted = [effect for effect in told if isinstance(effect, Note)]
    assert [note.answered.result for note in noted] == ["lost"]
    assert core.provider.bids.take_notes() == []
