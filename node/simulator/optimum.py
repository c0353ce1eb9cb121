"""The cheapest free slots of a whole network at one moment: what an omniscient market would take.

The cost of a slot is its provider's floor (specs/pricing.md#ask). Nodes are grouped as arrays, so a
million of them are matched with a demand at once; floors come from keys, one by one, and are only
derived where the list price does not rule a node out.
Spec: specs/simulation-results.md#optimum.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from node.simulator.network import START_MS
from node.simulator.node import SimulatedNode
from node.simulator.population import Population
from protocol.rules.capacity import slots_in
from protocol.rules.matching import Demand, fits
from protocol.rules.pricing import PERCENT, list_rate
from protocol.wire.job import Resources

FLOORS_AT_ONCE: Final = 256
"""How many nodes more are considered at first when those known do not suffice; then twice as many.
"""


@dataclass(slots=True)
class _Eligible:
    """The nodes that fit one demand."""

    numbers: NDArray[np.int64]
    """Ascending by list price, then by number."""
    listed: NDArray[np.int64]
    """Their list prices for the demand."""
    lowest_percent: int
    """No floor is lower than this, in percent of the list price."""
    ranked: list[tuple[int, int]] = field(default_factory=list)
    """The floors of the first of them, with their numbers, ascending."""

    def least_unknown(self) -> int | None:
        """Return what the floor of a node that is not ranked is at least; None if all are."""
        known = len(self.ranked)
        if known == len(self.numbers):
            return None
        return _floor(int(self.listed[known]), self.lowest_percent)


class Optimum:
    """Finds the cheapest free slots. `nodes` are those that have a core, by number."""

    def __init__(self, population: Population, nodes: Mapping[int, SimulatedNode]) -> None:
        self._population = population
        self._nodes = nodes
        self._eligible: dict[Demand, _Eligible] = {}
        self._percents: dict[int, int] = {}

    def forget(self, number: int) -> None:
        """Take the prices of a node anew: they have changed."""
        self._percents.pop(number, None)
        self._eligible.clear()

    def floor(self, demand: Demand, number: int) -> int:
        """Return the floor of a provider for a job, in nano-credits per second."""
        listed = list_rate(self._population.policy(number).prices, demand.resources)
        return _floor(listed, self._percent(number))

    def cheapest(self, demand: Demand, count: int) -> list[tuple[int, int]]:
        """Return floor and provider of the cheapest free slots for a job, ascending.

        They are on nodes that are online now. A provider stands there once for each slot.
        """
        eligible = self._eligible.get(demand)
        if eligible is None:
            eligible = self._eligible[demand] = self._match(demand)
        while True:
            found = self._free(eligible, demand.resources, count)
            least = eligible.least_unknown()
            if least is None or (len(found) == count and found[-1][0] <= least):
                return found
            self._rank_more(eligible)

    def _free(self, eligible: _Eligible, wanted: Resources, count: int) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = []
        online = self._population.online
        for floor, number in eligible.ranked:
            if online[number]:
                found += [(floor, number)] * self._slots(number, wanted, count - len(found))
                if len(found) == count:
                    break
        return found

    def _slots(self, number: int, wanted: Resources, most: int) -> int:
        """Return how many slots a node has free, at most so many."""
        node = self._nodes.get(number)
        if node is None:
            return slots_in(self._population.policy(number).capacity, wanted, most)
        return slots_in(node.core.provider.left(node.policy.capacity), wanted, most)

    def _match(self, demand: Demand) -> _Eligible:
        """Find the nodes that fit: those of one kind, region and price are alike."""
        population = self._population
        providers = np.arange(population.requesters, len(population))
        regions, prices = len(population.links.regions), int(population.price_percent.max()) + 1
        group = population.kind[providers] * regions + population.links.region[providers]
        group = group * prices + population.price_percent[providers]
        deviating = sorted(population.adversaries)
        for place, number in enumerate(deviating, int(group.max()) + 1):
            if number >= population.requesters:  # It may offer something else than its like.
                group[number - population.requesters] = place
        _, firsts, inverse = np.unique(group, return_index=True, return_inverse=True)
        listed = [self._listed(demand, int(providers[first])) for first in firsts.tolist()]
        of_node = np.array(listed, np.int64)[inverse]
        numbers, of_node = providers[of_node >= 0], of_node[of_node >= 0]
        order = np.argsort(of_node, kind="stable")
        return _Eligible(numbers[order], of_node[order], self._population.pricing.lowest_percent)

    def _listed(self, demand: Demand, number: int) -> int:
        """Return the list price of a node for a job; -1 if it does not fit."""
        record = self._population.record(number, START_MS)
        peer = self._population.identities.peer_of(number)
        return list_rate(record.prices, demand.resources) if fits(demand, peer, record) else -1

    def _rank_more(self, eligible: _Eligible) -> None:
        known = len(eligible.ranked)
        until = known + max(FLOORS_AT_ONCE, known)
        numbers = eligible.numbers[known:until].tolist()
        listed = eligible.listed[known:until].tolist()
        eligible.ranked += [
            (_floor(price, self._percent(number)), number)
            for price, number in zip(listed, numbers, strict=True)
        ]
        eligible.ranked.sort()

    def _percent(self, number: int) -> int:
        """Return the floor of a node in percent of its list price."""
        percent = self._percents.get(number)
        if percent is None:
            percent = self._percents[number] = self._population.policy(number).floor_percent
        return percent


def _floor(listed: int, percent: int) -> int:
    return -(-listed * percent // PERCENT)
