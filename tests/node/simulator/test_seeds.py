"""Chance: repeated by seed and name, different by each of them, and as likely as it says.

Spec: specs/simulation.md#determinism. The numbers that stand here were drawn once: they may not
change with a version of Python or numpy.
"""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from node.simulator.seeds import between, bits, choose, pair_hash, stream

SEED = st.integers(0, 2**63)
NAME = st.text(max_size=20)
NODES = st.integers(0, 2**31 - 1)


def hashed(one: int, other: int, key: int) -> int:
    return int(pair_hash(np.array([one]), np.array([other]), key)[0])


def test_no_version_changes_what_is_drawn() -> None:
    assert [stream(7, "a").randrange(1000) for _ in range(2)] == [996, 996]
    assert bits(7, "a", 2).tolist() == [7018081926907259893, 13351171573331410811]
    assert hashed(3, 8, 7) == 2800833847155043602


@settings(max_examples=40)
@given(SEED, NAME, st.integers(0, 50))
def test_a_seed_and_a_name_repeat_their_numbers(seed: int, name: str, count: int) -> None:
    assert stream(seed, name).random() == stream(seed, name).random()
    assert bits(seed, name, count).tolist() == bits(seed, name, count + 3).tolist()[:count]


@settings(max_examples=40)
@given(SEED, SEED, NAME, NAME)
def test_another_seed_or_name_draws_others(seed: int, more: int, name: str, other: str) -> None:
    pairs = [(seed, name), (seed ^ more, other)]
    same = pairs[0] == pairs[1]
    assert (bits(*pairs[0], 2).tolist() == bits(*pairs[1], 2).tolist()) == same
    assert (stream(*pairs[0]).getrandbits(64) == stream(*pairs[1]).getrandbits(64)) == same


def test_choices_are_as_likely_as_their_weights() -> None:
    weights = [1, 0, 2, 7]
    counts = np.bincount(choose(bits(1, "choices", 20_000), weights), minlength=4)
    assert counts[1] == 0
    for count, weight in zip(counts.tolist(), weights, strict=True):
        assert abs(count - 2_000 * weight) < 300


@settings(max_examples=40)
@given(st.integers(-50, 50), st.integers(0, 9), SEED)
def test_an_integer_is_within_its_bounds_and_reaches_both(least: int, more: int, seed: int) -> None:
    drawn = between(bits(seed, "between", 400), least, least + more)
    assert (int(drawn.min()), int(drawn.max())) == (least, least + more)


@given(NODES, NODES, SEED)
def test_a_pair_has_one_number_in_both_directions(one: int, other: int, key: int) -> None:
    assert hashed(one, other, key) == hashed(other, one, key)


@settings(max_examples=40)
@given(st.lists(st.tuples(NODES, NODES), min_size=1, max_size=20), SEED)
def test_a_pair_has_its_number_whatever_else_is_asked(
    pairs: list[tuple[int, int]], key: int
) -> None:
    ones, others = (np.array(each) for each in zip(*pairs, strict=True))
    alone = [hashed(one, other, key) for one, other in pairs]
    assert pair_hash(ones, others, key).tolist() == alone


def test_numbers_of_pairs_are_spread_evenly() -> None:
    one, other = np.triu_indices(200, 1)
    shares = np.bincount((pair_hash(one, other, 5) % np.uint64(16)).astype(int), minlength=16)
    assert len(np.unique(pair_hash(one, other, 5))) == len(one)
    assert (abs(shares - len(one) / 16) < 200).all()
