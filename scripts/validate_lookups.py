"""Validation of Kademlia: how the depth of lookups grows, and how many end within three hops.

Spec: specs/validation.md#kademlia.
"""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

import numpy as np

from node.simulator.engine import Engine
from node.simulator.kademlia import (
    ID_BITS,
    LIBP2P,
    PAPER,
    Kademlia,
    LookupResult,
    LookupRules,
    RoutingTables,
    make_tables,
)
from node.simulator.paths import Paths
from node.simulator.seeds import stream
from node.simulator.world.bandwidth import EqualLines
from node.simulator.world.latency import Regions
from scripts.validate_studies import Effort, Study, Target, near

ONE: Final = LookupRules(k=1, parallel=1)
HOPS_MAX: Final = 3
AMINO_NODES: Final = 10_000
"""About as many servers as IPFS had in the weeks of the measurement."""
WAY_TICKS: Final = 500


def hops_per_doubling(k: int) -> float:
    """Return how many hops more each doubling of the network costs, in theory.

    A hop gains one bit, and as many more as the best of k random nodes shares by chance: the
    largest of k geometric numbers.
    """
    more = math.fsum(1 - (1 - 2.0**-bit) ** k for bit in range(1, 64))
    return 1 / (1 + more)


@lru_cache(1)
def _tables(nodes: int, k: int, seed: int) -> RoutingTables:
    return make_tables(nodes, k, seed)


def lookups(nodes: int, rules: LookupRules, count: int, seed: int) -> list[LookupResult]:
    """Let random nodes look up random ids, one after the other, in a world of regions."""
    paths = Paths(Regions().links(nodes, seed), EqualLines().rates(nodes, seed))
    delay = paths.delay if rules.parallel > 1 else _same_delay
    network = Kademlia(Engine(), _tables(nodes, rules.k, seed), delay, rules)
    chance = stream(seed, f"validation/lookups/{nodes}")
    return [network.run(chance.randrange(nodes), chance.getrandbits(ID_BITS)) for _ in range(count)]


def _same_delay(one: int, other: int) -> int:
    """Return the same for all: without parallel requests time decides nothing."""
    return WAY_TICKS


def _grow(effort: Effort, seed: int) -> Mapping[str, float]:
    return {
        "V2 k=20": _slope(effort, PAPER, effort.lookups, seed),
        "V2 k=1": _slope(effort, ONE, 3 * effort.lookups, seed),
    }


def _slope(effort: Effort, rules: LookupRules, count: int, seed: int) -> float:
    """Return the hops per doubling: the slope of the mean over the logarithm of the size."""
    hops = [_mean_hops(lookups(nodes, rules, count, seed)) for nodes in effort.sizes]
    return float(np.polyfit(np.log2(effort.sizes), hops, 1)[0])


def _mean_hops(results: Sequence[LookupResult]) -> float:
    hops = [result.hops for result in results if result.found]
    return math.fsum(hops) / len(hops)


def _find(effort: Effort, seed: int) -> Mapping[str, float]:
    found = {}
    for key, rules in (("V2b", PAPER), ("V2b libp2p", LIBP2P)):
        results = lookups(AMINO_NODES, rules, effort.lookups, seed)
        near_enough = sum(result.found and result.hops <= HOPS_MAX for result in results)
        found[key] = 100 * near_enough / len(results)
    return found


THEORY: Final = "Cai and Devroye, Internet Mathematics 2015: c · log n; c from the gain per hop"
MEASURED: Final = "Trautwein, README of dennis-tra/optimistic-provide (IPFS, 2021)"
STUDIES: Final = (
    Study("V2 lookup depth", _grow, (
        Target("V2 k=20", "hops per doubling, k = 20, 3 at a time", "0.176 ± 10 %",
               *near(hops_per_doubling(20), 10), THEORY),
        Target("V2 k=1", "hops per doubling, k = 1, 1 at a time", "0.5 ± 10 %",
               *near(hops_per_doubling(1), 10), THEORY),
    )),
    Study("V2b lookups within three hops", _find, (
        Target("V2b", "found within 3 hops, 10,000 nodes (%)", "over 98", 98, 100, MEASURED, 1),
        Target("V2b libp2p", "the same by the rules of py-libp2p 0.8.1 (%)", "over 98",
               98, 100, MEASURED, 1),
    )),
)  # fmt: skip
