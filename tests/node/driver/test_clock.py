"""The clock counts Unix milliseconds and never goes back, whatever is done to the machine's.

Spec: specs/core.md#time.
"""

import time

import pytest

from node.driver.clock import Clock


def test_it_begins_with_the_time_of_the_machine() -> None:
    before_ms = time.time_ns() // 10**6
    now_ms = Clock().now_ms()
    assert before_ms - 1 <= now_ms <= time.time_ns() // 10**6 + 1


def test_nobody_can_set_it(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    before_ms = clock.now_ms()
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    assert before_ms <= clock.now_ms() < before_ms + 60_000
