"""The overlay of one gossip topic: who forwards to whom, and how long each hop takes.

A mesh of even degree is a union of random cycles through all members (Law and Siu, INFOCOM 2003):
connected, regular, and made in linear time. Spec: specs/simulation.md#gossip.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from node.simulator.seeds import bits

UNREACHED: Final = np.int64(1 << 62)
STEP_TICKS: Final = 50
"""A flood advances by so many ticks at a time; the result does not depend on it."""
Numbers = NDArray[np.int64]
Delays = Callable[[Numbers, Numbers], NDArray[np.int32]]
"""How many ticks a hop takes, for pairs of nodes."""


@dataclass(slots=True)
class Overlay:
    """The members of a topic, by place, and the neighbours of each."""

    members: Numbers
    """The number of the node at each place."""
    neighbours: NDArray[np.int32]
    """The places of each member's neighbours, a row for each member; its own place stands for none.
    """
    delays: NDArray[np.int32]
    """The ticks to each of them."""

    def degrees(self) -> NDArray[np.int64]:
        """Return how many neighbours each member has."""
        own = np.arange(len(self.members), dtype=np.int32)
        counts: NDArray[np.int64] = (self.neighbours != own[:, np.newaxis]).sum(axis=1)
        return counts

    def count_links(self, places: NDArray[np.bool_], others: NDArray[np.bool_]) -> int:
        """Return how many links lead from some places to others."""
        own = np.flatnonzero(places)
        targets = self.neighbours[own]
        return int((others[targets] & (targets != own[:, np.newaxis])).sum())

    def rows(self) -> list[tuple[list[int], list[int]]]:
        """Return the neighbours of each member and the ticks to them, as lists."""
        pairs = zip(self.neighbours.tolist(), self.delays.tolist(), strict=True)
        return [
            ([each for each in places if each != own],
             [tick for each, tick in zip(places, ticks, strict=True) if each != own])
            for own, (places, ticks) in enumerate(pairs)
        ]  # fmt: skip

    def flood(self, arrivals: Numbers, online: NDArray[np.bool_] | None = None) -> Numbers:
        """Return when a message first reaches each place, if all forward it to all neighbours.

        `arrivals` is when it comes from its author, UNREACHED where it does not. Places that are
        not online neither take nor forward. The result is exact: each forwards its first copy.
        """
        first = arrivals.copy()
        if online is not None:
            first[~online] = UNREACHED
        waiting = np.flatnonzero(first < UNREACHED)
        while waiting.size:
            end = first[waiting].min() + STEP_TICKS
            is_due = first[waiting] < end
            due, waiting = waiting[is_due], waiting[~is_due]
            improved = self._forward(np.unique(due), first, online)
            while improved.size:
                is_due = first[improved] < end
                waiting = np.concatenate([waiting, improved[~is_due]])
                improved = self._forward(np.unique(improved[is_due]), first, online)
        return first

    def _forward(
        self, places: NDArray[np.intp], first: Numbers, online: NDArray[np.bool_] | None
    ) -> NDArray[np.intp]:
        """Let places forward what they have; return those to which it comes sooner now."""
        targets = self.neighbours[places].ravel().astype(np.intp)
        comes = (first[places][:, np.newaxis] + self.delays[places]).ravel()
        is_sooner = comes < first[targets]
        if online is not None:
            is_sooner &= online[targets]
        targets, comes = targets[is_sooner], comes[is_sooner]
        np.minimum.at(first, targets, comes)
        return targets


def make_overlay(members: Numbers, degree: int, delays: Delays, seed: int, name: str) -> Overlay:
    """Return a random mesh in which each member has up to `degree` neighbours; degree is even."""
    assert degree > 0
    assert degree % 2 == 0
    count = len(members)
    own = np.arange(count, dtype=np.int32)
    neighbours = np.empty((count, degree), np.int32)
    for number in range(degree // 2):
        ring = np.argsort(bits(seed, f"{name}/ring {number}", count), kind="stable")
        neighbours[ring, 2 * number] = np.roll(ring, -1)
        neighbours[ring, 2 * number + 1] = np.roll(ring, 1)
    neighbours.sort(axis=1)
    repeats = neighbours[:, 1:] == neighbours[:, :-1]
    neighbours[:, 1:][repeats] = np.broadcast_to(own[:, np.newaxis], repeats.shape)[repeats]
    ticks = [delays(members, members[column]) for column in neighbours.T]
    return Overlay(members, neighbours, np.column_stack(ticks).astype(np.int32))
