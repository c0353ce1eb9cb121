"""Virtual time: what happens, in one order, without a clock.

Time is counted in ticks of 100 µs. Events of one tick wait in a list, in the order in which they
were scheduled; only distinct ticks are in a heap. So an event costs an append, and no two events
are ever compared (Brown 1988, calendar queues; measured in specs/simulation.md#engine). Those whose
order must not depend on when they were scheduled come last in their tick, in an order of their own.

Spec: specs/simulation.md#engine.
"""

from collections.abc import Callable
from heapq import heappop, heappush
from operator import itemgetter
from typing import Any, Final

TICKS_PER_MS: Final = 10
NEVER: Final = 1 << 62


class Engine:
    """The queue of events and the present."""

    def __init__(self) -> None:
        self.now = 0
        """The present tick."""
        self.events = 0
        """How many events have happened."""
        self._at: dict[int, list[tuple[Any, ...]]] = {}
        self._last: dict[int, list[tuple[Any, ...]]] = {}
        """Those that come after all others of their tick, each with its place among them first."""
        self._ticks: list[int] = []
        self._done = 0
        """How many events of the earliest tick have happened, if a run ended among them."""

    def at(self, tick: int, call: Callable[..., object], *arguments: Any) -> None:
        """Schedule a call; one in the past happens now, after all that was scheduled before."""
        tick = max(tick, self.now)
        events = self._at.get(tick)
        if events is None:
            self._at[tick] = [(call, arguments)]
            heappush(self._ticks, tick)
        else:
            events.append((call, arguments))

    def after(self, ticks: int, call: Callable[..., object], *arguments: Any) -> None:
        """Schedule a call so many ticks from now."""
        self.at(self.now + ticks, call, *arguments)

    def last(
        self, tick: int, place: tuple[int, ...], call: Callable[..., object], *arguments: Any
    ) -> None:
        """Schedule a call after all others of a tick, by its place among those that come last.

        No two of a tick have the same place.
        """
        tick = max(tick, self.now)
        if tick not in self._at:
            self._at[tick] = []
            heappush(self._ticks, tick)
        self._last.setdefault(tick, []).append((place, call, arguments))

    def next_tick(self) -> int:
        """Return the tick of the next event; NEVER if there is none."""
        return self._ticks[0] if self._ticks else NEVER

    def skip(self, ticks: int) -> None:
        """Let time pass in which nothing happens; what was due meanwhile happens then."""
        self.now += ticks

    def run(self, until: int) -> None:
        """Let everything happen before a tick, and go there."""
        self.run_until(None, until)

    def run_until(self, condition: Callable[[], bool] | None, until: int) -> bool:
        """Let things happen until a condition holds or a tick is reached; say whether it holds.

        The condition is tested before each event. Without one, only the tick counts.
        """
        while self._ticks and self._ticks[0] < until:
            tick = self._ticks[0]
            if self._holds_within(tick, condition):
                return True
            heappop(self._ticks)
            del self._at[tick]
            self._done = 0
        if condition is not None and condition():
            return True
        self.now = max(self.now, until)
        return False

    def _holds_within(self, tick: int, condition: Callable[[], bool] | None) -> bool:
        """Let the events of a tick happen until a condition holds; say whether it does."""
        events, number = self._at[tick], self._done
        try:
            while number < len(events) or self._close(tick):  # Some are appended meanwhile.
                if condition is not None and condition():
                    return True
                self.now = max(self.now, tick)
                call, arguments = events[number]
                number += 1
                call(*arguments)
        finally:
            self.events += number - self._done
            self._done = number
        return False

    def _close(self, tick: int) -> bool:
        """Append those that come last to the events of a tick; say whether there are any."""
        last = self._last.pop(tick, None)
        if last is None:
            return False
        last.sort(key=itemgetter(0))
        self._at[tick] += [(call, arguments) for _, call, arguments in last]
        return True
