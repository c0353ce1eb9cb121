"""The floors of lenders. Spec: specs/simulation.md#pricing."""

from node.simulator.scenario import Scenario
from node.simulator.simulation import Simulation
from node.simulator.world.pricing import DrawnFloors, FixedFloors, SpreadFloors
from protocol.rules.pricing import floor_percent_of

SECRETS = [bytes([number]) * 32 for number in range(200)]


def test_drawn_floors_are_those_of_real_nodes():
    assert all(DrawnFloors().floor_percent(one) == floor_percent_of(one) for one in SECRETS)


def test_fixed_floors_are_one():
    assert {FixedFloors(percent=100).floor_percent(one) for one in SECRETS} == {100}


def test_spread_floors_are_between_their_bounds_whichever_comes_first():
    floors = {SpreadFloors(20, 40).floor_percent(one) for one in SECRETS}
    assert floors <= set(range(20, 41))
    assert len(floors) > 10
    assert {SpreadFloors(40, 20).floor_percent(one) for one in SECRETS} == floors


def test_no_floor_is_lower_than_the_lowest():
    for model in (DrawnFloors(), FixedFloors(), SpreadFloors(40, 20)):
        assert min(model.floor_percent(one) for one in SECRETS) >= model.lowest_percent


def test_the_nodes_of_a_world_have_them():
    values = {"nodes": 30, "pricing.model": "fixed", "pricing.percent": 65}
    simulation = Simulation(Scenario.of(values).world, "flow", 1)
    assert {simulation.population.policy(number).floor_percent for number in range(10, 30)} == {65}
