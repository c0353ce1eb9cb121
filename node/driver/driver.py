"""The driver: the one loop that feeds the core and performs its effects.

Spec: specs/core.md#driver. The inputs that wait, then one transaction, then every effect, then the
next inputs. Long work runs in the background, and its result comes back as an input; only this loop
changes the core.
"""

import contextlib
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Final, Protocol

import trio

from node.driver.clock import Clock
from node.driver.commits import commit_of
from node.storage.journal import Journal, OutboxRow
from protocol.core.core import Core
from protocol.machines.effects import Effect, Send
from protocol.machines.inputs import DeadlineReached, Input

TOGETHER_MAX: Final = 64
"""The most inputs of one transaction ..."""
TOGETHER_MS: Final = 5
"""... and for how long the core may process them: the first of them waits for the last."""

ENCODED_HERE_MAX: Final = 500
"""More effects, such as those of a large array, are encoded in a thread: others use the loop."""


class Queue(Enum):
    """The queues of inputs and their capacities; the driver serves them in turn.

    When a queue is full, gossip is discarded and every other sender waits.
    """

    MAIN = 4_096  # Everything about our own jobs and leases.
    CALLS = 256  # Calls of requesters that we know.
    STRANGERS = 128  # Calls of others: the answer to a call that waits long comes too late.
    RECORDS = 1_024


class Inbox(Protocol):
    """Accepts inputs for the core, such as the results of effects."""

    def give(self, event: Input, queue: Queue = Queue.MAIN) -> bool:
        """Queue an input that may be lost; return whether there was room."""
        ...

    async def take(self, event: Input, queue: Queue = Queue.MAIN) -> None:
        """Queue an input and wait until its effects are committed and begun."""
        ...


Perform = Callable[[Effect | OutboxRow], None]
"""Performs an effect, or begins it, without waiting. Durable effects are committed already.

A Send comes as its row of the outbox; the row is 0 if the message is not in the outbox.
"""


@dataclass(frozen=True, slots=True)
class _Turn:
    event: Input
    taken: trio.Event | None


class Driver:
    """Feeds inputs to the core and performs its effects."""

    def __init__(self, core: Core, journal: Journal, clock: Clock) -> None:
        self.core = core
        self._journal = journal
        self._clock = clock
        self._queues = {queue: trio.open_memory_channel[_Turn](queue.value) for queue in Queue}
        self._order = deque(Queue)  # The next queue is first.
        self._waiting = trio.Semaphore(0)  # Counts the queued inputs.

    def give(self, event: Input, queue: Queue = Queue.MAIN) -> bool:
        """Queue an input that may be lost; return whether there was room."""
        try:
            self._queues[queue][0].send_nowait(_Turn(event, None))
        except trio.WouldBlock:
            return False
        self._waiting.release()
        return True

    async def take(self, event: Input, queue: Queue = Queue.MAIN) -> None:
        """Queue an input and wait until its effects are committed and begun."""
        await (await self.put(event, queue)).wait()

    async def put(self, event: Input, queue: Queue = Queue.MAIN) -> trio.Event:
        """Queue an input; return what is set once its effects are committed and begun."""
        taken = trio.Event()
        await self._queues[queue][0].send(_Turn(event, taken))
        self._waiting.release()
        return taken

    async def run(self, perform: Perform, first: Sequence[Effect]) -> None:
        """Perform the effects of the recovery, then process inputs until cancelled."""
        await self._settle(perform, first)
        while True:
            turns, effects = self._process(await self._next())
            # Once the core has changed, the disk must follow: a cancellation waits.
            with trio.CancelScope(shield=True):
                await self._settle(perform, effects)
            for turn in turns:
                if turn.taken is not None:
                    turn.taken.set()

    def _process(self, first: _Turn) -> tuple[Sequence[_Turn], Sequence[Effect]]:
        """Pass an input, and further ones that wait, to the core; return them and all effects.

        A commit waits for the disk, whatever it contains: what came meanwhile shares the next.
        """
        now_ms = self._clock.now_ms()
        until_ms = now_ms + TOGETHER_MS
        turns, effects = [first], [*self.core.handle(first.event, now_ms)]
        while len(turns) < TOGETHER_MAX and now_ms < until_ms:
            try:
                self._waiting.acquire_nowait()
            except trio.WouldBlock:
                break
            turns.append(self._next_in_turn())
            now_ms = self._clock.now_ms()
            effects += self.core.handle(turns[-1].event, now_ms)
        return turns, effects

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
        """Return the next input, round robin over the queues: none starves another."""
        while True:
            queue = self._order[0]
            self._order.rotate(-1)
            with contextlib.suppress(trio.WouldBlock):
                return self._queues[queue][1].receive_nowait()

    async def _settle(self, perform: Perform, effects: Sequence[Effect]) -> None:
        """Commit the durable effects, then perform all in order."""
        rows: Iterator[int] = iter(())
        encode = partial(commit_of, effects, self.core.signer.peer_id, self._clock.now_ms())
        is_large = len(effects) > ENCODED_HERE_MAX
        commit = await trio.to_thread.run_sync(encode) if is_large else encode()
        if commit is not None:
            rows = iter((await self._journal.commit(commit)).outbox_rows)
        for effect in effects:
            if isinstance(effect, Send):
                row = next(rows) if effect.in_outbox else 0
                perform(OutboxRow(row, effect.peer, effect.envelope, effect.until_ms))
            else:
                perform(effect)
