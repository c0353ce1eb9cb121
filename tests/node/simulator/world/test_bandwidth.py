"""How fast lines are. Spec: specs/simulation-world.md#bandwidth."""

import numpy as np
import pytest

from node.simulator.world.bandwidth import HOMES, EqualLines, Homes, rate_of


def test_a_rate_is_in_bytes_per_tick_and_never_0():
    assert rate_of(100) == 1_250
    assert rate_of(0.1) == 1
    assert rate_of(1_000) == 12_500


def test_equal_lines_are_alike_in_both_directions():
    sends, receives = EqualLines(mbit=8).rates(5, 1)
    assert sends.tolist() == receives.tolist() == [100] * 5


def test_homes_have_the_shares_of_their_kinds_and_are_slower_up():
    sends, receives = Homes().rates(20_000, 1)
    for share, down, up in HOMES:
        alike = (receives == rate_of(down)) & (sends == rate_of(up))
        assert alike.mean() == pytest.approx(share / 100, abs=0.02)
    assert (sends <= receives).all()


def test_a_seed_decides_and_percent_scales():
    one, again, other = (Homes().rates(100, seed) for seed in (1, 1, 2))
    assert np.array_equal(one[0], again[0])
    assert not np.array_equal(one[0], other[0])
    assert Homes(percent=50).rates(100, 1)[0].sum() == pytest.approx(one[0].sum() / 2, rel=0.01)
