"""A mesh whose members judge each other: those of no use lose their place, and others take it.

Spec: specs/simulation.md#peer-score.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.simulator.mesh import REFUSED_MS, Mesh
from node.simulator.overlay import make_overlay
from node.simulator.seeds import stream
from tests.node.simulator.test_gossip import MessageGossip, Spread, topic_of

DEGREE = 6
HONEST = 100
PAUSE = 20_000


def mesh_of(count: int = 40, seed: int = 1) -> Mesh:
    members = np.arange(count) + 10

    def delays(one, other):
        return (np.abs(one - other) + 1).astype(np.int32)

    overlay = make_overlay(members, DEGREE, delays, seed, "mesh")
    return Mesh(overlay, delays, DEGREE, stream(seed, "mesh"))


def neighbours(mesh: Mesh, place: int = 0) -> list[int]:
    return mesh.rows[place][0]


def check(mesh: Mesh) -> None:
    """Assert that links go both ways, take the same time, and are between two members once."""
    for place, (others, delays) in enumerate(mesh.rows):
        assert len(others) == len(delays) == len(set(others)) <= 2 * DEGREE
        assert place not in others
        for other, delay in zip(others, delays, strict=True):
            back = mesh.rows[other]
            assert back[1][back[0].index(place)] == delay == abs(place - other) + 1


def test_one_that_forwards_nothing_loses_its_place_after_ten_messages() -> None:
    mesh = mesh_of()
    silent, *others = neighbours(mesh)
    for _ in range(9):
        mesh.review(0, others, 0)
    assert silent in neighbours(mesh)
    mesh.review(0, others, 0)
    assert neighbours(mesh) == others
    assert 0 not in neighbours(mesh, silent)
    check(mesh)


def test_one_message_in_ten_keeps_a_place() -> None:
    mesh = mesh_of()
    lazy, *others = neighbours(mesh)
    for number in range(100):
        mesh.review(0, [lazy, *others] if number % 10 == 9 else others, 0)
    assert neighbours(mesh) == [lazy, *others]


def test_invalid_messages_cost_points_that_heal_with_time() -> None:
    mesh = mesh_of()
    patient, quick = neighbours(mesh)[:2]
    for minute in range(30):  # Ten points heal in each.
        mesh.blame(0, patient, minute * 60_000)
    assert patient in neighbours(mesh)
    for _ in range(9):
        mesh.blame(0, quick, 0)
    assert quick in neighbours(mesh)
    mesh.blame(0, quick, 0)
    assert quick not in neighbours(mesh)
    check(mesh)


def test_who_lost_its_place_is_refused_for_ten_minutes() -> None:
    mesh = mesh_of(count=3)
    online = np.ones(13, np.bool_)
    assert sorted(neighbours(mesh)) == [1, 2]
    for _ in range(10):
        mesh.review(0, [2], 0)
    for place in (0, 1):  # Neither asks the other again.
        mesh.mend(place, online, REFUSED_MS - 1)
        assert 1 not in neighbours(mesh)
    mesh.mend(0, online, REFUSED_MS)
    assert sorted(neighbours(mesh)) == [1, 2]
    check(mesh)


@settings(max_examples=40)
@given(st.integers(0, 2**32), st.lists(st.integers(0, 39), max_size=30), st.data())
def test_links_stay_in_order_whatever_happens(seed: int, gone: list[int], data) -> None:
    mesh = mesh_of(seed=seed)
    online = np.ones(50, np.bool_)
    online[[each + 10 for each in gone]] = False
    for place in data.draw(st.lists(st.integers(0, 39), max_size=40)):
        mesh.mend(place, online, 0)
        assert all(online[other + 10] for other in neighbours(mesh, place))
    check(mesh)


def test_too_few_neighbours_become_enough_and_enough_stay() -> None:
    mesh = mesh_of()
    online = np.ones(50, np.bool_)
    mesh.mend(0, online, 0)
    few = neighbours(mesh)[:4]
    for other in neighbours(mesh)[4:]:
        mesh.prune(0, other)
    mesh.mend(0, online, 0)
    assert neighbours(mesh) == few
    mesh.prune(0, few[0])
    mesh.mend(0, online, 0)
    assert len(neighbours(mesh)) == DEGREE
    check(mesh)


def test_a_member_with_twice_the_degree_takes_no_more() -> None:
    mesh = mesh_of()
    for other in range(40):
        for neighbour in tuple(neighbours(mesh, other)):
            mesh.prune(other, neighbour)
    for other in range(1, 40):  # Only member 0 and this one are there.
        online = np.zeros(50, np.bool_)
        online[[10, 10 + other]] = True
        mesh.mend(other, online, 0)
    assert len(neighbours(mesh)) == 2 * DEGREE
    check(mesh)


def quick(spread: Spread, calls: int) -> list[int]:
    """Let calls follow each other; return how many honest nodes had each within 200 ms."""
    gossip = spread.gossip
    assert isinstance(gossip, MessageGossip)
    found = []
    for _ in range(calls):
        began = spread.engine.now
        spread.heard.clear()
        spread.publish()
        spread.engine.run(began + PAUSE)
        honest = [
            tick for tick, number, _ in spread.heard
            if number not in gossip.silent and number not in gossip.forging
        ]  # fmt: skip
        found.append(sum(tick - began < 2_000 for tick in honest))
    return found


@pytest.mark.parametrize("deviation", ["silent", "forging"])
def test_delivery_recovers_where_two_thirds_are_of_no_use(deviation: str) -> None:
    found = {}
    for scoring in (True, False):
        spread = Spread(MessageGossip, 302, 1, degree=DEGREE)
        gossip = spread.gossip
        assert isinstance(gossip, MessageGossip)
        setattr(gossip, deviation, frozenset(range(2, 202)))
        gossip.scoring = scoring
        found[scoring] = quick(spread, 40)
    assert found[True][0] == found[False][0] < HONEST * 95 // 100
    assert max(found[False][-5:]) < HONEST * 95 // 100
    assert min(found[True][-5:]) >= HONEST * 98 // 100


def test_honest_nodes_hardly_keep_links_to_silent_ones() -> None:
    spread = Spread(MessageGossip, 302, 1, degree=DEGREE)
    gossip = spread.gossip
    assert isinstance(gossip, MessageGossip)
    gossip.silent = frozenset(range(2, 102))
    quick(spread, 1)
    before = len(links_to(spread, gossip.silent))
    quick(spread, 39)
    assert len(links_to(spread, gossip.silent)) < before // 5


def links_to(spread: Spread, numbers: frozenset[int]) -> list[tuple[int, int]]:
    """Return the links from other members to these."""
    topic = spread.gossip._topics[topic_of(spread.population)]
    assert topic.mesh is not None
    return [
        (place, other) for place, (others, _) in enumerate(topic.mesh.rows) for other in others
        if topic.numbers[other] in numbers and topic.numbers[place] not in numbers
    ]  # fmt: skip


def test_loss_alone_drives_hardly_anybody_away() -> None:
    spread = Spread(MessageGossip, 302, 1, degree=DEGREE)
    gossip = spread.gossip
    assert isinstance(gossip, MessageGossip)
    gossip.loss_ppm = 200_000
    quick(spread, 1)
    mesh = gossip._topics[topic_of(spread.population)].mesh
    assert mesh is not None
    before = sum(len(others) for others, _ in mesh.rows)
    quick(spread, 30)
    assert sum(len(others) for others, _ in mesh.rows) > before * 95 // 100
