"""Tokens: how many at once, and how fast they come back.

Spec: specs/gossip.md#limits.
"""

import pytest
import trio

from node.network.allowances import Bucket

BURST, PER_S = 40, 10


async def test_a_burst_is_granted_and_no_more(autojump_clock):
    bucket = Bucket(BURST, PER_S)
    assert [bucket.take(30), bucket.take(30), bucket.take(30)] == [30, 10, 0]


async def test_tokens_come_back_up_to_a_burst(autojump_clock):
    bucket = Bucket(BURST, PER_S)
    bucket.take(BURST)
    await trio.sleep(2)
    assert bucket.take(BURST) == 2 * PER_S
    await trio.sleep(3600)
    assert bucket.take(2 * BURST) == BURST


async def test_a_debt_is_waited_for(autojump_clock):
    bucket = Bucket(BURST, PER_S)
    assert bucket.owe(BURST) == 0
    assert bucket.owe(25) == pytest.approx(2.5)
    assert bucket.take(1) == 0
    await trio.sleep(2.5)
    assert bucket.owe(0) == pytest.approx(0)
