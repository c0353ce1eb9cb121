"""Connections that others have taken.

Spec: specs/simulation-world.md#eclipses.
"""

from typing import Any

import pytest

from node.simulator.eclipses import Eclipses
from node.simulator.scenario import Scenario
from node.simulator.simulation import Simulation
from protocol.wire.messages import BidCommit, BidRefusal

OTHERS = [9, 8, 7, 6]


def test_who_is_not_a_victim_keeps_its_connections() -> None:
    eclipses = Eclipses()
    eclipses.add({1: 100}, [7, 5])
    assert eclipses.connections(0, OTHERS) == OTHERS
    assert 0 not in eclipses.captors


def test_captors_take_connections_and_all_of_them_hide_the_rest() -> None:
    eclipses = Eclipses()
    eclipses.add({0: 50, 1: 100}, [7, 5])
    eclipses.add({1: 50}, [4])
    assert eclipses.connections(0, OTHERS) == [5, 7, 9, 8]
    assert eclipses.connections(1, OTHERS) == [5, 7], "who has fewer nodes than connections"
    assert eclipses.captors == {1: (5, 7)}, "the first takes them"


@pytest.mark.parametrize("tier", ["flow", "message"])
def test_calls_of_an_eclipsed_user_reach_its_captors_alone(tier: str) -> None:
    values: dict[str, Any] = {
        "nodes": 40, "requesters": 1, "supply.model": "equal", "demand.model": "burst",
        "demand.jobs": 1, "adversaries.eclipse.share_percent": 20,
        "adversaries.eclipse.victims_percent": 100,
    }  # fmt: skip
    simulation = Simulation(Scenario.of(values).world, tier, 1)
    simulation.run(60_000)
    captors = set(simulation.population.adversaries)
    assert len(captors) == 8
    assert set(simulation.network.nodes) == {0, *captors}
    answers = simulation.network.sent
    assert 0 < answers[BidCommit.__name__] + answers[BidRefusal.__name__] <= 2 * len(captors)
    assert len(simulation.network.nodes[0].core.connected) == len(captors)
