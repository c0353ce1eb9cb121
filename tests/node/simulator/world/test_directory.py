"""The models of how addresses are found.

Spec: specs/simulation.md#directory.
"""

import pytest

from node.simulator import Scenario
from node.simulator.kademlia import LIBP2P, LookupRules
from node.simulator.simulation import Simulation
from node.simulator.world.directory import DhtAddresses, SharedAddresses
from protocol.values.errors import InvalidRequest


def test_addresses_are_shared_unless_a_scenario_says_otherwise() -> None:
    world = Scenario.of({"nodes": 20}).world
    assert world.directory == SharedAddresses()
    assert world.directory.rules() is None
    assert Simulation(world, "flow", 1).network.lookups is None


def test_a_dht_follows_the_rules_of_libp2p_unless_a_scenario_says_otherwise() -> None:
    rules = DhtAddresses().rules()
    assert (rules.k, rules.parallel, rules.in_rounds) == (LIBP2P.k, LIBP2P.parallel, True)
    assert rules.timeout_ms == LIBP2P.timeout_ms
    given = {
        "nodes": 20, "directory.model": "dht", "directory.k": 4, "directory.parallel": 2,
        "directory.limit": "9s",
    }  # fmt: skip
    scenario = Scenario.of(given)
    assert scenario.world.directory.rules() == LookupRules(4, 2, limit_ms=9_000, in_rounds=True)
    assert Simulation(scenario.world, "flow", 1).network.lookups is not None


def test_a_bucket_holds_somebody() -> None:
    with pytest.raises(InvalidRequest, match="1 or more"):
        Scenario.of({"directory.model": "dht", "directory.k": 0})
