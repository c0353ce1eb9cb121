"""All transfers together keep to the owner's limit.

Spec: specs/data.md#rate-limits.
"""

import pytest

from node.data import throttle
from node.data.throttle import BURST_S, MIB, Throttle


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(throttle.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(throttle.time, "sleep", lambda s: now.__setitem__(0, now[0] + s))
    return now


def test_bytes_take_their_time(clock) -> None:
    slow = Throttle(2)
    for _ in range(10):
        slow.wait(MIB)
    assert clock[0] - 1000 == pytest.approx(5 - BURST_S)


def test_what_was_not_used_is_lost(clock) -> None:
    slow = Throttle(1)
    slow.wait(MIB)
    clock[0] += 3600
    assert slow.delay_s(MIB) == pytest.approx(1 - BURST_S)


async def test_nothing_is_no_limit(clock) -> None:
    free = Throttle(0)
    free.wait(2**60)
    await free.pause(2**60)
    assert clock[0] == 1000


async def test_tasks_wait_too(clock, autojump_clock) -> None:
    del clock, autojump_clock
    slow = Throttle(1)
    await slow.pause(3 * MIB)
    assert slow.delay_s(0) > 0
