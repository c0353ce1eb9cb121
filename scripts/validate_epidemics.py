"""Validation of flooding and of the engine against the theory of epidemics.

Spec: specs/validation.md#epidemics.
"""

import math
from collections.abc import Mapping
from statistics import fmean
from typing import Final

import numpy as np

from node.simulator.engine import Engine
from node.simulator.overlay import UNREACHED, Overlay
from node.simulator.seeds import bits, stream
from scripts.validate_studies import Effort, Study, Target

FANOUTS: Final = (2, 3, 4, 6, 8)
NODES: Final = 100_000
PUSHING: Final = (1_000, 10_000)
"""The sizes of networks in which nodes push."""
ROUNDS_MAX: Final = 1_000


def coverage_of(fanout: int) -> float:
    """Return the share z of nodes that an epidemic reaches: z = 1 - exp(-fanout · z)."""
    share = 0.9
    for _ in range(500):
        share = 1 - math.exp(-fanout * share)
    return share


def rounds_of(nodes: int) -> float:
    """Return how many rounds of push inform all nodes, up to a constant."""
    return math.log2(nodes) + math.log(nodes)


def _infect(effort: Effort, seed: int) -> Mapping[str, float]:
    """Let each node forward to so many random ones, once; measure the share that is reached."""
    return {f"V5 {fanout}": 100 * _share(fanout, seed) for fanout in FANOUTS}


def _share(fanout: int, seed: int) -> float:
    """Return the share of nodes that a flood reaches; of those that do not die out at once."""
    drawn = bits(seed, f"validation/fanout {fanout}", NODES * fanout) % np.uint64(NODES)
    neighbours = drawn.astype(np.int32).reshape(NODES, fanout)
    overlay = Overlay(np.arange(NODES), neighbours, np.ones_like(neighbours))
    for author in range(NODES):
        arrivals = np.full(NODES, UNREACHED)
        arrivals[author] = 0
        share = float((overlay.flood(arrivals) < UNREACHED).mean())
        if share > 0.1:
            return share
    raise AssertionError("no epidemic survived")


def _push(effort: Effort, seed: int) -> Mapping[str, float]:
    return {
        f"V5 push {nodes}": fmean(
            _Push(nodes, f"{seed}/{run}").rounds() for run in range(effort.pushes)
        )
        for nodes in PUSHING
    }


class _Push:
    """In each round each informed node tells one random node."""

    def __init__(self, nodes: int, name: str) -> None:
        self._engine = Engine()
        self._chance = stream(0, f"validation/push {nodes}/{name}")
        self._is_informed = bytearray(nodes)
        self._left = nodes
        self._rounds = 0

    def rounds(self) -> int:
        """Return after how many rounds all know."""
        self._hear(0)
        self._engine.run(ROUNDS_MAX)
        assert self._left == 0
        return self._rounds

    def _hear(self, node: int) -> None:
        if not self._is_informed[node]:
            self._is_informed[node] = 1
            self._left -= 1
            self._rounds = self._engine.now
            self._engine.after(1, self._tell)

    def _tell(self) -> None:
        if self._left:
            self._hear(self._chance.randrange(len(self._is_informed)))
            self._engine.after(1, self._tell)


EPIDEMICS: Final = "Eugster et al., IEEE Computer 2004; z = 1 - exp(-fz)"
PITTEL: Final = "Pittel, SIAM J. Appl. Math. 1987: log2 n + ln n + O(1)"
STUDIES: Final = (
    Study("V5 epidemic coverage", _infect, tuple(
        Target(f"V5 {f}", f"reached of 100,000 nodes with fanout {f} (%)",
               f"{100 * coverage_of(f):.2f} ± 0.5", 100 * coverage_of(f) - 0.5,
               min(100, 100 * coverage_of(f) + 0.5), EPIDEMICS, 2)
        for f in FANOUTS
    )),
    Study("V5 push", _push, tuple(
        Target(f"V5 push {n}", f"rounds until all of {n:,} nodes know",
               f"{rounds_of(n):.1f} ± 1.5", rounds_of(n) - 1.5, rounds_of(n) + 1.5, PITTEL, 1)
        for n in PUSHING
    ), 10),
)  # fmt: skip
