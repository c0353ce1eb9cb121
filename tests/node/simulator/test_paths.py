"""Streams between two nodes: as long as the latency says, and the bandwidth.

Spec: specs/simulation-world.md#latency.
"""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from node.simulator.paths import PAIRS_KEPT_MAX, Paths
from node.simulator.world.bandwidth import EqualLines, Homes
from node.simulator.world.latency import Regions

NODE = st.integers(0, 49)
LINKS = Regions().links(50, 1)
RATES = EqualLines(mbit=100).rates(50, 1)
BYTES_PER_TICK = 1_250


@settings(max_examples=40)
@given(NODE, NODE)
def test_a_message_takes_what_the_model_says(one: int, other: int) -> None:
    paths = Paths(LINKS, RATES)
    asked = int(LINKS.ticks(np.array([one]), np.array([other]))[0])
    assert paths.delay(one, other) == paths.delay(other, one) == asked >= 1
    assert paths.round_trip_us(one, other) == 2 * asked * 100


@settings(max_examples=40)
@given(NODE, NODE, st.integers(0, 10**12))
def test_a_transfer_takes_a_round_trip_and_its_bytes(one: int, other: int, size: int) -> None:
    paths = Paths(LINKS, RATES)
    line = paths.transfer(one, other, size) - 2 * paths.delay(one, other)
    assert line * BYTES_PER_TICK <= size < (line + 1) * BYTES_PER_TICK


def test_the_slower_end_decides() -> None:
    sends, receives = Homes().rates(50, 1)
    paths = Paths(LINKS, (sends, receives))
    for one, other in ((0, 1), (1, 0), (7, 30)):
        rate = min(sends[one], receives[other])
        line = paths.transfer(one, other, 10**9) - 2 * paths.delay(one, other)
        assert line == 10**9 // rate
        assert paths.rate(one, other) == rate


def test_only_so_many_pairs_are_kept() -> None:
    assert Paths(LINKS, RATES).delay.cache_info().maxsize == PAIRS_KEPT_MAX
