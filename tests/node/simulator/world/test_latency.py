"""Latencies: positive, the same in both directions whenever asked, and as the models say.

Spec: specs/simulation-world.md#latency.
"""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.simulator.engine import TICKS_PER_MS
from node.simulator.world.latency import REGIONS, Latency, Links, Matrix, Regions, Uniform
from protocol.values.errors import InvalidRequest

NODES = 400
MODELS: list[Latency] = [Regions(), Regions(spread=0), Uniform(), Uniform(0.1, 0.1)]
NODE = st.integers(0, NODES - 1)


def asked(links: Links, pairs: list[tuple[int, int]]) -> list[int]:
    ones, others = (np.array(each, np.int64) for each in zip(*pairs, strict=True))
    return links.ticks(ones, others).tolist()


def sample(links: Links, count: int = 20_000) -> np.ndarray:
    """Return the ticks of many pairs of different nodes."""
    pairs = np.array(list(combinations(range(NODES), 2))[:count])
    return links.ticks(pairs[:, 0], pairs[:, 1])


@pytest.mark.parametrize("model", MODELS, ids=repr)
@settings(max_examples=40)
@given(st.lists(st.tuples(NODE, NODE), min_size=1, max_size=20), st.integers(0, 2**63))
def test_a_pair_has_one_latency_whenever_it_is_asked(
    model: Latency, pairs: list[tuple[int, int]], seed: int
) -> None:
    links = model.links(NODES, seed)
    together = asked(links, pairs)
    assert min(together) >= 1
    assert together == asked(links, [(other, one) for one, other in pairs])
    assert together == [asked(model.links(NODES, seed), [pair])[0] for pair in pairs]
    assert together == asked(links, pairs[::-1])[::-1]


@pytest.mark.parametrize("model", [Regions(), Uniform()], ids=repr)
def test_worlds_of_other_seeds_have_nothing_in_common(model: Latency) -> None:
    one, other = (model.links(NODES, seed) for seed in (1, 2))
    # A pair must not have in one world what its neighbour has in the next.
    pairs = [(0, number) for number in range(1, NODES - 1)]
    for by in (0, 1):
        shifted = [(0, number + by) for number in range(1, NODES - 1)]
        same = np.array(asked(one, shifted)) == np.array(asked(other, pairs))
        assert same.mean() < 0.05


def test_nodes_live_where_the_shares_say() -> None:
    links = Regions().links(20_000, 1)
    counts = np.bincount(links.region, minlength=len(REGIONS))
    for count, (_, _, share) in zip(counts.tolist(), REGIONS.values(), strict=True):
        assert abs(count / 200 - share) < 1.5
    assert links.regions == tuple(REGIONS)


def test_a_region_is_nearer_to_itself_than_to_the_other_end_of_the_earth() -> None:
    links = Regions(spread=0).links(NODES, 1)
    names = list(REGIONS)
    at = {name: np.flatnonzero(links.region == names.index(name)).tolist() for name in names}
    europe, oceania = at["europe-west"], at["oceania"]
    near, far = asked(links, [(europe[0], europe[1]), (europe[0], oceania[0])])
    # Half of 50 ms and 0.0165 ms for each km: 400 km, and 16,800 km (haversine).
    assert near == round((50 + 0.0165 * 400) / 2 * TICKS_PER_MS)
    assert abs(far / TICKS_PER_MS - (50 + 0.0165 * 16_800) / 2) < 3


def test_the_spread_is_lognormal_around_the_distance() -> None:
    exact, spread = Regions(spread=0).links(NODES, 5), Regions(spread=0.46).links(NODES, 5)
    logs = np.log(sample(spread) / sample(exact))
    assert abs(np.median(logs)) < 0.02
    assert abs(logs.std() - 0.46) < 0.02


def test_uniform_latencies_fill_their_bounds() -> None:
    ticks = sample(Uniform(20.0, 60.0).links(NODES, 1)) / TICKS_PER_MS
    assert (ticks.min() >= 19.9, ticks.max() <= 60.0) == (True, True)
    assert (ticks.min() < 21, ticks.max() > 59) == (True, True)
    assert abs(ticks.mean() - 40) < 0.5


def test_bounds_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="least_ms is more than most_ms"):
        Uniform(2.0, 1.0).links(NODES, 1)


def written(folder: Path, text: str) -> Matrix:
    path = folder / "matrix.csv"
    path.write_text(text)
    return Matrix(path)


def test_a_matrix_is_halved_and_its_directions_are_averaged(tmp_path: Path) -> None:
    links = written(tmp_path, "here,there\n2,10\n\n14,4.5\n").links(NODES, 1)
    assert links.regions == ("here", "there")
    here, there = (np.flatnonzero(links.region == number).tolist() for number in (0, 1))
    assert abs(len(here) - NODES / 2) < 60
    pairs = [(here[0], here[1]), (here[0], there[0]), (there[0], here[0]), (there[0], there[1])]
    assert asked(links, pairs) == [10, 60, 60, 22]


@pytest.mark.parametrize(
    "text, why",
    [
        ("", "0 names need as many rows"),
        ("a,b\n1,2\n", "2 names need as many rows"),
        ("a,b\n1,2\n3\n", "inhomogeneous"),
        ("a\nfast\n", "could not convert"),
        ("a\n0\n", "from 0 to"),
        ("a\nnan\n", "from 0 to"),
        ("a\ninf\n", "from 0 to"),
        ("a\n-3\n", "from 0 to"),
    ],
)
def test_an_unusable_matrix_is_refused(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        written(tmp_path, text).links(NODES, 1)


def test_a_matrix_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="No such file"):
        Matrix(tmp_path / "none.csv").links(NODES, 1)
