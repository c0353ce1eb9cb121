"""States by key with the earliest deadline available in constant time.

Spec: specs/core.md#time.
"""

from collections import UserDict
from collections.abc import Hashable
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Any, Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
S = TypeVar("S")

SLACK: Final = 64


class LazyHeap(Generic[K]):
    """Keys by priority, lowest first. Outdated entries are skipped lazily."""

    def __init__(self) -> None:
        self._priorities: dict[K, int] = {}
        self._entries: list[tuple[int, int, K]] = []
        """Priority, number and key: the number keeps keys from being compared."""
        self._numbers = count()

    def __len__(self) -> int:
        return len(self._priorities)

    def __contains__(self, key: object) -> bool:
        return key in self._priorities

    def set(self, key: K, priority: int) -> None:
        """Set the priority of a key; a new one replaces the old one."""
        self._priorities[key] = priority
        heappush(self._entries, (priority, next(self._numbers), key))
        if len(self._entries) > 2 * len(self._priorities) + SLACK:
            self._entries = [
                (priority, next(self._numbers), key) for key, priority in self._priorities.items()
            ]
            heapify(self._entries)

    def discard(self, key: K) -> None:
        """Remove a key if it is present."""
        self._priorities.pop(key, None)

    def first(self) -> tuple[int, K] | None:
        """Return the lowest priority and its key; None if empty."""
        while self._entries:
            priority, _, key = self._entries[0]
            if self._priorities.get(key) == priority:
                return priority, key
            heappop(self._entries)
        return None

    def take_up_to(self, limit: int) -> list[K]:
        """Remove and return the keys with a priority of at most `limit`, in order."""
        found = []
        while (first := self.first()) is not None and first[0] <= limit:
            found.append(first[1])
            self.discard(first[1])
        return found


class RunningStates(UserDict[K, S]):
    """States by key. Each state has a `deadline_ms`."""

    def __init__(self) -> None:
        self._deadlines: LazyHeap[K] = LazyHeap()
        super().__init__()

    def __setitem__(self, key: K, state: S) -> None:
        super().__setitem__(key, state)
        self._deadlines.set(key, _deadline_of(state))

    def __delitem__(self, key: K) -> None:
        super().__delitem__(key)
        self._deadlines.discard(key)

    def next_deadline_ms(self) -> int | None:
        """Return the earliest deadline; None if empty."""
        first = self._deadlines.first()
        return None if first is None else first[0]

    def take_due(self, now_ms: int) -> list[K]:
        """Return the keys of states whose deadline has passed, earliest first.

        The caller must set or delete each of these keys; to delete one may delete others.
        """
        return self._deadlines.take_up_to(now_ms)


def _deadline_of(state: Any) -> int:
    deadline_ms: int = state.deadline_ms
    return deadline_ms


def earliest(*deadlines_ms: int | None) -> int | None:
    """Return the earliest of some deadlines; None if there is none."""
    return min((one for one in deadlines_ms if one is not None), default=None)
