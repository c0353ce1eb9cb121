"""The cheapest free slots, against a search through all nodes.

Spec: specs/simulation-results.md#optimum.
"""

from dataclasses import replace

import pytest

from node.simulator import optimum
from node.simulator.network import START_MS
from node.simulator.optimum import Optimum
from node.simulator.population import Population
from node.simulator.simulation import Simulation, World
from node.simulator.world.demand import Burst, spec_of
from protocol.rules.capacity import slots_in
from protocol.rules.matching import demand_of_job, fits
from protocol.rules.pricing import list_rate

COUNT = 16
DEMANDS = {
    "cpu": demand_of_job(spec_of(Burst(), 0.5)),
    "large": demand_of_job(spec_of(Burst(cpus=6), 0.5)),
    "gpu": demand_of_job(spec_of(Burst(gpus=1), 0.5)),
    "place": replace(demand_of_job(spec_of(Burst(), 0.5)), region="europe-west"),
}


def searched(simulation, demand):
    """Return floor and number of the cheapest free slots, one node after the other."""
    population, found = simulation.population, []
    for number in population.providers:
        peer, record = population.identities.peer_of(number), population.record(number, START_MS)
        if not population.online[number] or not fits(demand, peer, record):
            continue
        policy, node = population.policy(number), simulation.network.nodes.get(number)
        left = node.core.provider.left(policy.capacity) if node else policy.capacity
        floor = -(-list_rate(policy.prices, demand.resources) * policy.floor_percent // 100)
        found += [(floor, number)] * slots_in(left, demand.resources, COUNT)
    return sorted(found)[:COUNT]


@pytest.fixture(scope="module")
def busy():
    simulation = Simulation(World(nodes=150, requesters=2, demand=Burst(jobs=60)), "flow", 3)
    simulation.run(20_000)
    simulation.population.online[5::4] = False
    return simulation


@pytest.mark.parametrize("demand", DEMANDS.values(), ids=DEMANDS)
@pytest.mark.parametrize("at_once", [1, 7, 256])
def test_it_is_what_a_search_finds(busy, demand, at_once, monkeypatch):
    monkeypatch.setattr(optimum, "FLOORS_AT_ONCE", at_once)
    found = Optimum(busy.population, busy.network.nodes).cheapest(demand, COUNT)
    wanted = searched(busy, demand)
    assert [floor for floor, _ in found] == [floor for floor, _ in wanted]
    assert len(wanted) == COUNT or demand is DEMANDS["place"]
    last = wanted[-1][0]
    assert [each for each in found if each[0] < last] == [each for each in wanted if each[0] < last]


def test_it_sees_who_comes_who_goes_and_who_is_taken(busy):
    demand = DEMANDS["large"]
    best = Optimum(busy.population, busy.network.nodes)
    floor, number = best.cheapest(demand, 1)[0]
    assert best.floor(demand, number) == floor
    busy.population.online[number] = False
    assert number not in [each for _, each in best.cheapest(demand, COUNT)]
    busy.population.online[number] = True
    assert best.cheapest(demand, 1) == [(floor, number)]


def test_nobody_fits_what_nobody_has(busy):
    demand = demand_of_job(spec_of(Burst(gpus=1, gpu_class="none-such"), 0.5))
    assert Optimum(busy.population, busy.network.nodes).cheapest(demand, COUNT) == []


def test_a_deviating_node_is_matched_by_what_it_offers(monkeypatch):
    population, number = Simulation(World(nodes=600, requesters=2), "flow", 1).population, 30
    honest = Population.policy

    def policy(self, asked):
        found = honest(self, asked)
        prices = replace(found.prices, cpu=found.prices.cpu // 10)
        return replace(found, prices=prices) if asked == number else found

    assert population.price_percent.tolist().count(population.price_percent[number]) > 1
    monkeypatch.setattr(Population, "policy", policy)
    monkeypatch.setattr(Population, "adversaries", {number: None}, raising=False)
    assert Optimum(population, {}).cheapest(DEMANDS["cpu"], 1)[0][1] == number
