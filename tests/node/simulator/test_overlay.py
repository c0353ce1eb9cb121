"""The overlay of a topic: regular, connected, and flooded exactly.

Spec: specs/simulation.md#gossip.
"""

from heapq import heappop, heappush
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.simulator.overlay import UNREACHED, Overlay, make_overlay
from node.simulator.seeds import pair_hash

SIZES = st.integers(0, 40)
DEGREES = st.sampled_from([2, 4, 8])
SEEDS = st.integers(0, 2**32)


def mesh(count: int, degree: int, seed: int, slowest: int = 200) -> Overlay:
    """Return an overlay whose members are numbered from 100 on."""
    return make_overlay(
        np.arange(100, 100 + count), degree,
        lambda one, other: (pair_hash(one, other, seed) % np.uint64(slowest) + 1).astype(np.int32),
        seed, "topic",
    )  # fmt: skip


def links_of(overlay: Overlay) -> dict[tuple[int, int], int]:
    """Return the ticks of each link, by the two places."""
    return {
        (place, neighbour): tick
        for place, (neighbours, ticks) in enumerate(overlay.rows())
        for neighbour, tick in zip(neighbours, ticks, strict=True)
    }


def shortest(overlay: Overlay, arrivals: list[int], online: list[bool]) -> list[int]:
    """Return the first arrivals by Dijkstra's algorithm."""
    first = [int(UNREACHED)] * len(arrivals)
    heap: list[tuple[int, int]] = []
    for place, tick in enumerate(arrivals):
        if tick < UNREACHED:
            heappush(heap, (tick, place))
    rows = overlay.rows()
    while heap:
        tick, place = heappop(heap)
        if online[place] and tick < first[place]:
            first[place] = tick
            for neighbour, delay in zip(*rows[place], strict=True):
                heappush(heap, (tick + delay, neighbour))
    return first


@settings(max_examples=40)
@given(SIZES, DEGREES, SEEDS)
def test_links_are_mutual_take_the_same_time_and_none_is_double(
    count: int, degree: int, seed: int
) -> None:
    overlay = mesh(count, degree, seed)
    links = links_of(overlay)
    assert all(links[other, one] == tick for (one, other), tick in links.items())
    assert all(one != other for one, other in links)
    assert [len(row) for row, _ in overlay.rows()] == overlay.degrees().tolist()
    assert all(len(row) == len(set(row)) <= degree for row, _ in overlay.rows())


@settings(max_examples=40)
@given(st.integers(3, 40), DEGREES, SEEDS)
def test_each_member_is_on_a_cycle_through_all(count: int, degree: int, seed: int) -> None:
    overlay = mesh(count, degree, seed)
    first = overlay.flood(np.array([0] + [UNREACHED] * (count - 1)))
    assert (first < UNREACHED).all()
    assert overlay.degrees().min() >= 2


@pytest.mark.parametrize("count", [0, 1, 2])
def test_the_smallest_overlays(count: int) -> None:
    overlay = mesh(count, 8, 1)
    assert overlay.degrees().tolist() == [count - 1] * count
    assert [row for row, _ in overlay.rows()] == [[], [[]], [[1], [0]]][count]


@pytest.mark.parametrize("degree", [0, 3])
def test_only_cycles_make_a_mesh(degree: int) -> None:
    with pytest.raises(AssertionError):
        mesh(10, degree, 1)


def test_a_large_overlay_is_almost_regular() -> None:
    degrees = mesh(2_000, 8, 3).degrees()
    assert degrees.max() == 8
    assert degrees.mean() > 7.9


@settings(max_examples=40)
@given(st.data(), SIZES, DEGREES, SEEDS, st.sampled_from([1, 30, 400]))
def test_a_flood_takes_the_shortest_paths(
    data: st.DataObject, count: int, degree: int, seed: int, slowest: int
) -> None:
    overlay = mesh(count, degree, seed, slowest)
    some = st.one_of(st.just(int(UNREACHED)), st.integers(0, 500))
    arrivals = data.draw(st.lists(some, min_size=count, max_size=count))
    online = data.draw(st.lists(st.booleans(), min_size=count, max_size=count))
    asked = np.array(arrivals, np.int64)
    everybody = [True] * count
    assert overlay.flood(asked).tolist() == shortest(overlay, arrivals, everybody)
    assert overlay.flood(asked, np.array(online, bool)).tolist() == (
        shortest(overlay, arrivals, online)
    )
    assert asked.tolist() == arrivals


@settings(max_examples=40)
@given(st.data(), SIZES, DEGREES, SEEDS)
def test_links_are_counted(data: st.DataObject, count: int, degree: int, seed: int) -> None:
    overlay = mesh(count, degree, seed)
    flags = st.lists(st.booleans(), min_size=count, max_size=count)
    places, others = data.draw(flags), data.draw(flags)
    counted = sum(places[one] and others[other] for one, other in links_of(overlay))
    assert overlay.count_links(np.array(places, bool), np.array(others, bool)) == counted


def test_topics_have_overlays_of_their_own_that_repeat() -> None:
    def rings(name: str, seed: int) -> list[list[int]]:
        members = np.arange(30)
        overlay = make_overlay(members, 2, lambda one, _: np.ones(len(one), np.int32), seed, name)
        return overlay.neighbours.tolist()

    assert rings("a", 1) == rings("a", 1)
    different = [rings("a", 1), rings("b", 1), rings("a", 2)]
    assert all(one != other for one, other in pairwise([*different, different[0]]))
