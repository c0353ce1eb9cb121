"""How often one requester, all known ones and all strangers may call.

Spec: specs/auction.md#rate-limits.
"""

from dataclasses import replace
from itertools import count

import pytest

from protocol.core import call_limits
from protocol.rules.standing import Standing
from protocol.values.limits import ALL_CALLS_BURST, ALL_CALLS_PER_MINUTE, CALLS_BURST
from protocol.wire.envelope import KeySigner
from tests.driven import START_MS
from tests.protocol.core.test_provider import AMY, CONTEXT, call, fresh, later
from tests.strategies import SIGNERS


def test_a_requester_that_calls_too_often_is_ignored_for_a_while() -> None:
    provider = fresh()
    calls = [call(nonce=number.to_bytes(16), rate_max=3_000) for number in range(CALLS_BURST + 1)]
    answers = [provider.hear(each, CONTEXT) for each in calls]
    assert [bool(answer) for answer in answers] == [True] * CALLS_BURST + [False]
    assert provider.hear(call(AMY), CONTEXT), "others are not hurt"
    assert provider.hear(calls[-1], later(1_000))


def test_fresh_keys_silence_a_provider_for_strangers_alone() -> None:
    """Forty a second once kept every honest requester from being answered."""
    provider, customer, stranger = (
        fresh(),
        KeySigner(bytes([90]) * 32, "test"),
        SIGNERS[7],
    )
    known = replace(CONTEXT, standing_of=lambda peer: Standing(settled=peer == customer.peer_id))
    answered = {"customer": 0, "stranger": 0, "fresh": 0}
    keys = (KeySigner(number.to_bytes(32), "test") for number in count(1_000))
    for second in range(40):
        context = replace(known, now_ms=START_MS + 1_000 * second)
        who = [("fresh", next(keys)) for _ in range(40)]
        for name, signer in [*who, ("customer", customer), ("stranger", stranger)]:
            asked = call(signer, nonce=second.to_bytes(16), rate_max=2_999)  # Refused: no bidding.
            answered[name] += bool(provider.hear(asked, context))
    assert answered["customer"] == 40
    assert answered["stranger"] < 40
    most = ALL_CALLS_BURST // 2 + 40 * ALL_CALLS_PER_MINUTE // 60 // 2
    assert answered["fresh"] + answered["stranger"] <= most


def test_known_requesters_together_are_bounded_too() -> None:
    known = replace(CONTEXT, standing_of=lambda peer: Standing(settled=True))
    provider, asked = fresh(), 0
    for number in range(ALL_CALLS_BURST // 2 + 1):
        signer = KeySigner(number.to_bytes(32), "test")
        asked += bool(provider.hear(call(signer, rate_max=2_999), known))
    assert asked == ALL_CALLS_BURST // 2


def test_buckets_of_strangers_do_not_fill_our_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_limits, "BIDDINGS_MAX", 3)
    provider = fresh()
    for signer in SIGNERS[1:8]:
        provider.hear(call(signer, rate_max=2_999), CONTEXT)
    assert list(provider._calls._buckets) == [signer.peer_id for signer in SIGNERS[5:8]]
