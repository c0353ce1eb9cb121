"""Virtual time for trio: it passes only while every task waits and no thread works.

Trio asks its clock how long to sleep when no task can run. That is the moment at which time may
pass, unless a thread is at work for some task: then the machine is waited for, and no time passes.
(trio.testing.MockClock with autojump does not know of threads: time would pass while SQLite
commits.) Inside, time is an integer number of ticks, so no error of rounding grows.

Spec: specs/simulation.md#stack.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import trio

from node.driver.clock import Clock
from node.simulator.engine import TICKS_PER_MS
from node.simulator.network import START_MS

TICKS_PER_S: Final = 1000 * TICKS_PER_MS
TOLERANCE: Final = 0.01
"""A deadline that is so little of a tick after a tick is on it: deadlines are sums of floats."""
WAITING_S: Final = 86_400.0
"""How long trio may sleep while time stands: a thread wakes it, or at the end trio itself."""


class VirtualClock(trio.abc.Clock):
    """A clock for `trio.run`. Each of `watched` says whether a thread works for some task."""

    def __init__(self, ticks: int = 0) -> None:
        """Take the present tick; it may be negative."""
        self.ticks = ticks
        self.watched: list[Callable[[], bool]] = []
        self._seconds = ticks / TICKS_PER_S
        self._holds = 0

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let no time pass, whatever is waited for."""
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1

    def start_clock(self) -> None:
        """Watch the threads of `trio.to_thread`."""
        limiter = trio.to_thread.current_default_thread_limiter()
        self.watched.append(lambda: limiter.borrowed_tokens > 0)

    def current_time(self) -> float:
        return self._seconds

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Go to the deadline, unless a thread works; return how long to sleep."""
        if deadline <= self._seconds:
            return 0
        is_held = self._holds or any(is_busy() for is_busy in self.watched)
        if is_held or deadline == math.inf:
            return WAITING_S
        self.ticks = max(self.ticks, math.ceil(deadline * TICKS_PER_S - TOLERANCE))
        # The deadline itself may be a hair after its tick, and it must have passed.
        self._seconds = max(deadline, self.ticks / TICKS_PER_S)
        return 0


class VirtualMilliseconds(Clock):
    """What a node reads from its clock."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock

    def now_ms(self) -> int:
        return START_MS + self._clock.ticks // TICKS_PER_MS
