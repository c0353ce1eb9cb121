"""The driver: the one loop that lets the core meet the world.

Spec: specs/core.md#driver. One input, then one transaction, then every effect, then the next
input. What takes long runs beside the loop and comes back as an input; nothing but this loop
touches the core.
"""

import contextlib
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import trio

from node.driver.clock import Clock
from node.driver.commits import commit_of
from node.storage.journal import Journal, OutboxRow
from protocol.core.core import Core
from protocol.machines.effects import Effect, Send
from protocol.machines.inputs import DeadlineReached, Input


class Queue(Enum):
    """Where an input waits for its turn, and how many may: each queue has its turn in time.

    Beyond that, gossip is dropped and all else waits outside.
    """

    MAIN = 4_096  # All of our own jobs and leases.
    CALLS = 256  # Calls of requesters that we know ...
    STRANGERS = 128  # ... and of others: a call that waits for long has its answer too late.
    RECORDS = 1_024


class Inbox(Protocol):
    """Where those who do things tell what came of it."""

    def give(self, event: Input, queue: Queue = Queue.MAIN) -> bool:
        """Queue an input that may be lost; say whether there was room."""
        ...

    async def take(self, event: Input, queue: Queue = Queue.MAIN) -> None:
        """Queue an input and wait until what it causes is on the disk and begun."""
        ...


Perform = Callable[[Effect | OutboxRow], None]
"""Does what an effect asks for, or begins it, and does not wait. What is to be kept is on the disk.

A Send comes as its row of the outbox; the row is 0 if it is not in there.
"""


@dataclass(frozen=True, slots=True)
class _Turn:
    event: Input
    taken: trio.Event | None


class Driver:
    """Feeds the core with inputs and performs its effects."""

    def __init__(self, core: Core, journal: Journal, clock: Clock) -> None:
        self.core = core
        self._journal = journal
        self._clock = clock
        self._queues = {queue: trio.open_memory_channel[_Turn](queue.value) for queue in Queue}
        self._order = deque(Queue)  # Whose turn it is.
        self._waiting = trio.Semaphore(0)  # How many inputs wait.

    def give(self, event: Input, queue: Queue = Queue.MAIN) -> bool:
        """Queue an input that may be lost; say whether there was room."""
        try:
            self._queues[queue][0].send_nowait(_Turn(event, None))
        except trio.WouldBlock:
            return False
        self._waiting.release()
        return True

    async def take(self, event: Input, queue: Queue = Queue.MAIN) -> None:
        """Queue an input and wait until what it causes is on the disk and begun."""
        taken = trio.Event()
        await self._queues[queue][0].send(_Turn(event, taken))
        self._waiting.release()
        await taken.wait()

    async def run(self, perform: Perform, first: Sequence[Effect]) -> None:
        """Perform the effects of the recovery, then drive until cancelled."""
        await self._settle(perform, first)
        while True:
            turn = await self._next()
            effects = self.core.handle(turn.event, self._clock.now_ms())
            # Once the core has moved, the disk must follow: a cancellation waits.
            with trio.CancelScope(shield=True):
                await self._settle(perform, effects)
            if turn.taken is not None:
                turn.taken.set()

    async def _next(self) -> _Turn:
        deadline_ms = self.core.next_deadline_ms()
        wait_s = math.inf
        if deadline_ms is not None:
            wait_s = max(0, deadline_ms - self._clock.now_ms()) / 1000
        with trio.move_on_after(wait_s):
            await self._waiting.acquire()
            return self._next_in_turn()
        return _Turn(DeadlineReached(), None)

    def _next_in_turn(self) -> _Turn:
        """Return the next input of the queues, one after the other: none keeps another waiting."""
        while True:
            queue = self._order[0]
            self._order.rotate(-1)
            with contextlib.suppress(trio.WouldBlock):
                return self._queues[queue][1].receive_nowait()

    async def _settle(self, perform: Perform, effects: Sequence[Effect]) -> None:
        """Write what must be written, then do everything in order."""
        rows: Iterator[int] = iter(())
        commit = commit_of(effects, self.core.signer.peer_id, self._clock.now_ms())
        if commit is not None:
            rows = iter((await self._journal.commit(commit)).outbox_rows)
        for effect in effects:
            if isinstance(effect, Send):
                row = next(rows) if effect.in_outbox else 0
                perform(OutboxRow(row, effect.peer, effect.envelope, effect.until_ms))
            else:
                perform(effect)
