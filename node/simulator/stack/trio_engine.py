"""The engine in trio's time: calls that happen when the clock reaches their tick.

Everything that is on its way between nodes is in one queue, so whatever happens in one tick happens
in the order in which it was sent, in whatever order trio runs the tasks.
Spec: specs/simulation.md#stack.
"""

from collections.abc import Callable
from typing import Any

import trio

from node.simulator.engine import NEVER, Engine
from node.simulator.stack.clock import TICKS_PER_S, VirtualClock


class TrioEngine(Engine):
    """An engine whose present is that of a clock; `pump` must run."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self.clock = clock
        self.now = clock.ticks
        self._sooner = trio.Event()

    def at(self, tick: int, call: Callable[..., object], *arguments: Any) -> None:
        """Schedule a call."""
        is_sooner = tick < self.next_tick()
        super().at(tick, call, *arguments)
        if is_sooner:
            self._sooner.set()

    def last(
        self, tick: int, place: tuple[int, ...], call: Callable[..., object], *arguments: Any
    ) -> None:
        """Schedule a call after all others of its tick."""
        is_sooner = tick < self.next_tick()
        super().last(tick, place, call, *arguments)
        if is_sooner:
            self._sooner.set()

    def catch_up(self) -> None:
        """Go to the present of the clock; what is scheduled in it stays to be done."""
        self.now = self.clock.ticks

    async def pump(self) -> None:
        """Let everything happen at its time, until cancelled."""
        while True:
            self._sooner = trio.Event()
            tick = self.next_tick()
            if tick > self.clock.ticks:
                with trio.move_on_at(float("inf") if tick == NEVER else tick / TICKS_PER_S):
                    await self._sooner.wait()
            else:
                self.run(self.clock.ticks + 1)
                self.catch_up()
                await trio.lowlevel.checkpoint()

    async def sleep(self, ticks: int) -> None:
        """Wait so many ticks."""
        await trio.sleep_until((self.clock.ticks + ticks) / TICKS_PER_S)
