"""Tokens: how many at once, how fast they come back, and who shares them.

Spec: specs/gossip.md#limits.
"""

import pytest
import trio

from node.network import rate_limits
from node.network.rate_limits import PEERS_PER_SOURCE, RateLimits, TokenBucket

BURST, PER_S = 40, 10


async def test_a_burst_is_granted_and_no_more(autojump_clock):
    bucket = TokenBucket(BURST, PER_S)
    assert [bucket.take(30), bucket.take(30), bucket.take(30)] == [30, 10, 0]


async def test_tokens_come_back_up_to_a_burst(autojump_clock):
    bucket = TokenBucket(BURST, PER_S)
    bucket.take(BURST)
    await trio.sleep(2)
    assert bucket.take(BURST) == 2 * PER_S
    await trio.sleep(3600)
    assert bucket.take(2 * BURST) == BURST


async def test_a_debt_is_waited_for(autojump_clock):
    bucket = TokenBucket(BURST, PER_S)
    assert bucket.owe(BURST) == 0
    assert bucket.owe(25) == pytest.approx(2.5)
    assert bucket.take(1) == 0
    await trio.sleep(2.5)
    assert bucket.owe(0) == pytest.approx(0)


def allowed(source_of=lambda peer: "here"):
    return RateLimits(BURST, PER_S, source_of)


async def test_each_peer_has_its_own(autojump_clock):
    made = allowed()
    assert [made.take("ada", BURST + 1), made.take("ada", 1)] == [BURST, 0]
    assert made.take("bob", BURST) == BURST


async def test_peers_of_one_source_share(autojump_clock):
    made = allowed(source_of=lambda peer: "there" if peer == "far" else "here")
    taken = sum(made.take(f"peer {number}", BURST) for number in range(2 * PEERS_PER_SOURCE))
    assert taken == PEERS_PER_SOURCE * BURST
    assert made.take("far", BURST) == BURST


async def test_who_has_used_up_its_own_takes_nothing_from_its_neighbours(autojump_clock):
    made = allowed()
    for _ in range(10 * PEERS_PER_SOURCE):
        made.take("ada", BURST)
    assert made.take("bob", BURST) == BURST


async def test_a_source_in_debt_makes_all_its_peers_wait(autojump_clock):
    made = allowed()
    waits_s = [made.owe(f"peer {number}", BURST) for number in range(2 * PEERS_PER_SOURCE)]
    assert waits_s[:PEERS_PER_SOURCE] == [0] * PEERS_PER_SOURCE
    assert waits_s[-1] == pytest.approx(BURST / PER_S)


async def test_those_heard_of_last_are_remembered(autojump_clock, monkeypatch):
    monkeypatch.setattr(rate_limits, "HOLDERS_MAX", 10)
    made = allowed(source_of=lambda peer: f"home of {peer}" if peer.startswith("x") else "here")
    made.take("ada", BURST)
    for number in range(100):
        made.take(f"x{number}", 1)
        assert made.take("ada", 1) == 0
        assert len(made._buckets) <= 10
    for number in range(10):
        made.take(f"x{number}", 1)
    assert made.take("ada", 1) == 1
