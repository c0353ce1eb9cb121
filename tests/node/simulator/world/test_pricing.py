"""The floors of lenders. Spec: specs/simulation-world.md#pricing."""

import pytest

from node.simulator.runs import simulate
from node.simulator.scenario import Scenario
from node.simulator.simulation import Simulation
from node.simulator.world.pricing import (
    ChangingPrices,
    DrawnFloors,
    FixedFloors,
    PriceChange,
    PriceTrace,
    SpreadFloors,
)
from protocol.rules.pricing import FLOOR_PERCENTS, floor_percent_of
from protocol.values.errors import InvalidRequest

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


def written(folder, text):
    path = folder / "prices.csv"
    path.write_text(text)
    return PriceTrace(file=path)


def test_prices_of_a_file_are_told_node_by_node(tmp_path):
    model = written(tmp_path, "3,0,120,50\n4,10,90,20\n3,500,80,60\n")
    assert list(model.changes(3)) == [PriceChange(0, 120, 50), PriceChange(500, 80, 60)]
    assert list(model.changes(4)) == [PriceChange(10, 90, 20)]
    assert list(model.changes(5)) == []
    assert model.lowest_percent == 20
    assert written(tmp_path, "").lowest_percent == FLOOR_PERCENTS.start
    assert isinstance(model, ChangingPrices)
    assert not isinstance(DrawnFloors(), ChangingPrices)


@pytest.mark.parametrize("text, why", [
    ("3,0,100,50\n3,x,100,50\n", "line 2: node, milliseconds, list price"),
    ("3,0,100\n", "line 1: node, milliseconds, list price"),
    ("3,9,100,50\n3,8,100,50\n", "line 2: times of a node only grow"),
    ("3,0,0,50\n", "line 1: times of a node only grow; a list price is 1 to"),
    ("3,0,100,101\n", "a floor 0 to 100 %"),
])  # fmt: skip
def test_a_wrong_line_is_named(tmp_path, text, why):
    with pytest.raises(InvalidRequest, match=why):
        list(written(tmp_path, text).changes(3))


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InvalidRequest, match="No such file"):
        list(PriceTrace(file=tmp_path / "none.csv").changes(3))


def test_prices_that_change_decide_who_wins_and_what_is_recorded(tmp_path):
    """Node 1 is the cheapest at first, and node 2 after a minute."""
    file = tmp_path / "prices.csv"
    file.write_text("1,0,50,100\n2,0,150,100\n3,0,100,100\n1,60000,150,100\n2,60000,50,100\n")
    values = {
        "nodes": 4, "requesters": 1, "horizon": "3m", "supply.model": "equal",
        "supply.spread_percent": 0, "pricing.model": "trace", "pricing.file": str(file),
        "demand.model": "trace", "demand.file": str(tmp_path / "jobs.csv"),
    }  # fmt: skip
    (tmp_path / "jobs.csv").write_text("at_ms,work_ms\n0,5000\n90000,5001\n")
    tables, _ = simulate(Scenario.of(values))
    jobs = tables["jobs"]
    assert jobs["provider"] == [1, 2]
    assert jobs["outcome"] == ["done", "done"]
    assert jobs["floor"][0] == jobs["floor"][1] == jobs["ask"][0] == jobs["ask"][1]
    assert [costs[0] for costs in tables["auctions"]["costs"]] == jobs["floor"]
    assert [slots[0] for slots in tables["auctions"]["slots"]] == [1, 2]
    assert tables["nodes"]["price_percent"] == [None, 150, 50, 100]
