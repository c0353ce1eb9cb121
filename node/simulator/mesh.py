"""The mesh of a gossip topic as its members change it: who is of no use loses its place.

A member counts for each neighbour the messages in a row that did not come from it, and its faults.
With as many of either as make a node refuse a peer, the neighbour is pruned, and not let in again
for a while. A member that has too few neighbours left grafts others, at random.
Spec: specs/simulation.md#peer-score.
"""

from collections.abc import Collection
from random import Random
from typing import Final

import numpy as np
from numpy.typing import NDArray

from node.network.interface import Tuning
from node.network.scores import HEALED_PER_MINUTE, PENALTY_LIMIT
from node.simulator.overlay import Delays, Overlay
from protocol.values.errors import PeerFault

FAULT: Final = PeerFault.penalty
"""What an invalid message costs, and one that did not come, in points."""
REFUSED_MS: Final = Tuning().refused_ms
"""How long a member that was pruned for its faults is refused."""
TRIES: Final = 4
"""How many random members are asked at most for each place that is free."""
Pair = tuple[int, int]
"""A member that judges, and one that is judged; all by place."""


class Mesh:
    """Who forwards to whom in one topic. Links are the same in both directions."""

    def __init__(self, overlay: Overlay, delays: Delays, degree: int, chance: Random) -> None:
        self.rows = overlay.rows()
        """The neighbours of each member and the ticks to them."""
        self._members = overlay.members
        self._delays = delays
        self._degree = degree
        self._chance = chance
        self._missed: dict[Pair, int] = {}
        """How many messages in a row did not come from a neighbour."""
        self._faults: dict[Pair, tuple[int, int]] = {}
        """The points of a member, in thousandths, and as of when; they heal with time."""
        self._refused_until_ms: dict[Pair, int] = {}

    def review(self, place: int, came_from: Collection[int], now_ms: int) -> None:
        """Let a member judge its neighbours by a message that came from some members."""
        for other in tuple(self.rows[place][0]):
            pair = place, other
            if other in came_from:
                self._missed.pop(pair, None)
                continue
            missed = self._missed[pair] = self._missed.get(pair, 0) + 1
            if missed * FAULT >= PENALTY_LIMIT:
                self._refuse(pair, now_ms)

    def blame(self, place: int, other: int, now_ms: int) -> None:
        """Let a member note an invalid message of another."""
        pair = place, other
        points, at_ms = self._faults.get(pair, (0, now_ms))
        healed = (now_ms - at_ms) * HEALED_PER_MINUTE // 60
        points = max(0, points - healed) + 1000 * FAULT
        self._faults[pair] = points, now_ms
        if points >= 1000 * PENALTY_LIMIT:
            self._refuse(pair, now_ms)

    def mend(self, place: int, online: NDArray[np.bool_], now_ms: int) -> None:
        """Let a member drop neighbours that have gone; graft others if it has too few.

        `online` is by number. As in a node, too few are less than two thirds of the degree, and a
        member with twice the degree takes no more.
        """
        row, members = self.rows[place][0], self._members
        for other in [each for each in row if not online[members[each]]]:
            self.prune(place, other)
        if 3 * len(row) >= 2 * self._degree:
            return
        for _ in range(TRIES * self._degree):
            other = self._chance.randrange(len(members))
            if self._may_graft(place, other, now_ms) and online[members[other]]:
                self._graft(place, other)
                if len(row) >= self._degree:
                    return

    def refuses(self, place: int, other: int, now_ms: int) -> bool:
        """Return whether a member takes nothing from another."""
        return now_ms < self._refused_until_ms.get((place, other), 0)

    def prune(self, place: int, other: int) -> None:
        """Remove the link of two members, if there is one."""
        for one, gone in ((place, other), (other, place)):
            neighbours, delays = self.rows[one]
            if gone in neighbours:
                at = neighbours.index(gone)
                del neighbours[at], delays[at]
            self._missed.pop((one, gone), None)

    def _refuse(self, pair: Pair, now_ms: int) -> None:
        self._faults.pop(pair, None)  # The score begins again.
        self._refused_until_ms[pair] = now_ms + REFUSED_MS
        self.prune(*pair)

    def _may_graft(self, place: int, other: int, now_ms: int) -> bool:
        return (
            other != place
            and other not in self.rows[place][0]
            and len(self.rows[other][0]) < 2 * self._degree
            and not self.refuses(place, other, now_ms)
            and not self.refuses(other, place, now_ms)
        )

    def _graft(self, place: int, other: int) -> None:
        one, two = self._members[[place]], self._members[[other]]
        delay = int(self._delays(one, two)[0])
        for here, there in ((place, other), (other, place)):
            neighbours, delays = self.rows[here]
            neighbours.append(there)
            delays.append(delay)
