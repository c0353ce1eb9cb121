"""Who was refused as busy hears of capacity, once, and not all at the same time.

Spec: specs/auction-messages.md#capacity-free.
"""

import pytest

from protocol.core import capacity_hints
from protocol.machines.effects import Send
from protocol.values.ids import CallId
from protocol.values.reasons import Refusal
from protocol.wire.job import Resources
from protocol.wire.messages import BidRefusal, CapacityFree, LeaseRelease
from tests.protocol.core.test_provider import AMY, ANN, CONTEXT, EVE, call, fresh, said, won


def test_who_was_refused_as_busy_is_told_once_when_there_is_capacity(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    provider = fresh()
    lease_id = won(provider)  # 3 of 4 processors.
    calls = [call(AMY, nonce=bytes([number]) * 16) for number in range(2)]
    for each in (*calls, call(EVE, resources=Resources(4), rate_max=9_000)):
        (refusal,) = said(provider.hear(each, CONTEXT))
        assert isinstance(refusal, BidRefusal)
        assert refusal.reason == Refusal.BUSY
    monkeypatch.setattr(capacity_hints, "HINTED_MAX", 1)
    told = provider.hear(ANN.sign(LeaseRelease(lease_id, 1)), CONTEXT)
    assert said(told)[-1] == CapacityFree(CallId(calls[1].content_id)), "about the last call"
    assert [effect.peer for effect in told if isinstance(effect, Send)].count(AMY.peer_id) == 1
    second = won(provider, nonce=bytes([9]) * 16)
    told = provider.hear(ANN.sign(LeaseRelease(second, 1)), CONTEXT)
    assert EVE.peer_id in [effect.peer for effect in told if isinstance(effect, Send)]
    third = won(provider, nonce=bytes([8]) * 16)
    assert len(said(provider.hear(ANN.sign(LeaseRelease(third, 1)), CONTEXT))) == 1, "nobody waits"
