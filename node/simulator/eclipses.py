"""Users whose connections others have taken: what they hear, and whom they reach.

A node hears of records, and others hear its calls, over its connections. If it has one honest one,
both spread from there; if it has none, it knows nobody else.
Spec: specs/simulation-world.md#eclipses.
"""

from collections.abc import Mapping, Sequence

ALL_PERCENT = 100


class Eclipses:
    """Which connections of which users are taken."""

    def __init__(self) -> None:
        self.captors: dict[int, tuple[int, ...]] = {}
        """The only nodes that a user knows, in their order, for users without another connection.
        """
        self._taken: dict[int, tuple[tuple[int, ...], int]] = {}

    def add(self, victims: Mapping[int, int], captors: Sequence[int]) -> None:
        """Let nodes take so many of the connections of some users, in percent."""
        ordered = tuple(sorted(captors))
        for user, percent in victims.items():
            if user in self._taken or not ordered:
                continue
            self._taken[user] = ordered, percent
            if percent >= ALL_PERCENT:
                self.captors[user] = ordered

    def connections(self, user: int, others: Sequence[int]) -> list[int]:
        """Return with whom a user is connected that would be connected with these."""
        captors, percent = self._taken.get(user, ((), 0))
        taken = len(others) * percent // ALL_PERCENT
        free = [each for each in others if each not in captors][: len(others) - taken]
        return [*captors[:taken], *free]
