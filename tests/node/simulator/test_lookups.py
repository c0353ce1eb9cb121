"""Looking up the addresses of others in a DHT: who is found, when, and what follows.

Spec: specs/simulation.md#directory.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from node.simulator.engine import TICKS_PER_MS, Engine
from node.simulator.lookups import DROPPED_MS, AddressLookup, AddressLookups
from node.simulator.world.directory import DhtAddresses, SharedAddresses
from node.simulator.world.quantities import Duration
from protocol.machines import effects
from tests.node.simulator.recorded import CALM, simulated
from tests.node.simulator.small_world import SmallWorld, equal_world

NODES, SEED, WAY_MS = 300, 5, 20


class Searching:
    """Nodes that look each other up, and what they found."""

    def __init__(self, nodes: int = NODES, **rules: Any) -> None:
        self.engine = Engine()
        self.online = np.ones(nodes, np.bool_)
        made = DhtAddresses(**rules).rules()
        self.asked: list[tuple[int, int]] = []
        self.lookups = AddressLookups(self.engine, self._delay, self.online, made, SEED)
        self.ended: list[AddressLookup] = []
        self.lookups.ended.append(self.ended.append)

    def find(self, seeker: int, wanted: int) -> list[int]:
        """Return when each thing that waits for an address happens, in ms."""
        happened: list[int] = []

        def happen() -> None:
            happened.append(self.engine.now // TICKS_PER_MS)

        self.lookups.find(seeker, wanted, happen)
        return happened

    def change(self, number: int, *, online: bool) -> None:
        self.lookups.change(number, online)
        self.online[number] = online

    def run(self, duration_ms: int = 60_000) -> None:
        self.engine.run(self.engine.now + duration_ms * TICKS_PER_MS)

    def _delay(self, one: int, other: int) -> int:
        self.asked.append((one, other))
        return WAY_MS * TICKS_PER_MS


def test_a_node_that_is_there_is_found_hop_by_hop() -> None:
    net = Searching()
    happened = [net.find(0, wanted) for wanted in range(1, 60)]
    net.run()
    assert all(len(each) == 1 for each in happened)
    assert {each.hops for each in net.ended} == {1, 2}
    for lookup in net.ended:
        assert lookup.found
        assert lookup.took_ms % (2 * WAY_MS) == 0
        assert lookup.took_ms >= 2 * WAY_MS * lookup.hops
        assert happened[lookup.wanted - 1] == [lookup.at_ms + lookup.took_ms]
        assert 1 <= lookup.requests <= 10 * lookup.took_ms // (2 * WAY_MS)
    assert sum(each.requests for each in net.ended) == len(net.asked)


def test_whom_a_node_has_found_it_looks_up_no_more() -> None:
    net = Searching()
    first, second = net.find(0, 9), net.find(0, 9)
    assert first == second == []
    net.run()
    assert first == second == [net.ended[0].took_ms]
    now_ms = net.engine.now // TICKS_PER_MS
    assert net.find(0, 9) == [now_ms]
    assert len(net.ended) == 1
    assert net.find(1, 9) == []
    net.run()
    assert [each.seeker for each in net.ended] == [0, 1]


def test_one_that_is_away_is_not_found_and_looked_up_again_when_it_is_wanted_again() -> None:
    net = Searching()
    net.change(9, online=False)
    first = net.find(0, 9)
    net.run()
    net.change(9, online=True)
    second = net.find(0, 9)
    net.run()
    assert first == []
    assert len(second) == 1
    assert [(each.found, each.hops > 0) for each in net.ended] == [(False, False), (True, True)]


def test_a_search_ends_at_its_limit() -> None:
    net = Searching(limit=Duration(4 * WAY_MS - 1))
    happened = [net.find(0, wanted) for wanted in range(1, 60)]
    net.run()
    late = [each for each in net.ended if not each.found]
    assert late
    for lookup in late:
        assert lookup.took_ms == 4 * WAY_MS - 1
        assert happened[lookup.wanted - 1] == []


def test_who_has_gone_costs_time_only_until_it_is_dropped() -> None:
    def took_ms(after_ms: int) -> list[int]:
        net = Searching(limit=Duration(60_000))
        for number in range(200, NODES):
            net.change(number, online=False)
        net.run(after_ms)
        for wanted in range(1, 40):
            net.find(0, wanted)
        net.run()
        assert all(each.found for each in net.ended)
        return [each.took_ms for each in net.ended]

    assert max(took_ms(DROPPED_MS + 1)) < 1_000
    assert max(took_ms(DROPPED_MS - 1)) >= 4_000


def test_one_that_came_back_and_went_again_is_dropped_after_its_last_leave() -> None:
    net = Searching()
    net.change(9, online=False)
    net.run(DROPPED_MS - 1_000)
    net.change(9, online=True)
    net.run(500)
    net.change(9, online=False)
    dropped = net.lookups._dht.dropped
    net.run(DROPPED_MS - 1)
    assert not dropped[9]
    net.run(2)
    assert dropped[9]
    assert dropped.sum() == 1
    net.change(9, online=True)
    assert not dropped[9]


def test_hops_grow_with_the_network() -> None:
    def mean_hops(nodes: int) -> float:
        net = Searching(nodes)
        for wanted in range(1, 100):
            net.find(0, wanted % nodes or 1)
        net.run()
        return sum(each.hops for each in net.ended) / len(net.ended)

    means = [mean_hops(nodes) for nodes in (20, 200, 2_000)]
    assert all(one < other for one, other in pairwise(means))
    assert means[0] == 1


# --- in a market ----------------------------------------------------------------------------


def reach(world: SmallWorld, number: int) -> Callable[[], bool]:
    """Let the requester reach a node; return what says whether they are connected."""
    node, peer = world.network.nodes[0], world.network.identities.peer_of(number)
    world.network._do(node, effects.Reach((peer,)))
    return lambda: peer in node.core.connected


@pytest.mark.parametrize("is_dht", [False, True])
def test_a_node_is_connected_once_its_address_is_known(is_dht: bool) -> None:
    more = {"directory": DhtAddresses()} if is_dht else {}
    world = SmallWorld(equal_world(nodes=300, **more))
    node = world.network.nodes[0]
    peer_of = world.network.identities.peer_of
    stranger = next(n for n in range(1, 300) if peer_of(n) not in node.core.connected)
    is_connected = reach(world, stranger)
    assert world.run_until(is_connected, 5_000)
    dialled_ms = world.network.engine.now // TICKS_PER_MS
    assert (dialled_ms >= 3 * 5 + 2 * 5) == is_dht


def test_a_node_that_goes_meanwhile_reaches_nobody() -> None:
    world = SmallWorld(equal_world(nodes=300, directory=DhtAddresses()))
    ended: list[AddressLookup] = []
    assert world.network.lookups is not None
    world.network.lookups.ended.append(ended.append)
    peer_of, node = world.network.identities.peer_of, world.network.nodes[0]
    stranger = next(n for n in range(1, 300) if peer_of(n) not in node.core.connected)
    is_connected = reach(world, stranger)
    world.network.go(node)
    world.run(10_000)
    assert [each.found for each in ended] == [True]
    assert not is_connected()


def test_lookups_of_a_market_are_recorded() -> None:
    world = replace(CALM, nodes=300, directory=DhtAddresses())
    simulation, recorder = simulated(world, 60_000)
    assert simulation.network.lookups is not None
    tables = recorder.tables()
    found = tables["lookups"]
    assert len(found["at_ms"]) > 100
    assert set(found["node"]) <= set(range(world.requesters))
    assert min(found["wanted"]) >= world.requesters
    assert set(found["hops"]) == {1, 2}
    summary = {name: values[0] for name, values in tables["summary"].items()}
    assert summary["lookups_found"] == 1
    assert 1 < summary["lookup_hops"] < 2
    assert 0 < summary["lookup_ms_p50"] < summary["lookup_ms_p95"] <= max(found["took_ms"])


def test_no_auction_waits_for_a_lookup() -> None:
    digests = []
    for directory in (SharedAddresses(), DhtAddresses()):
        simulation, recorder = simulated(replace(CALM, nodes=300, directory=directory), 60_000)
        digests.append(simulation.network.digest.hex())
        assert bool(recorder.tables()["lookups"]["at_ms"]) == (len(digests) == 2)
    assert digests[0] == digests[1]
