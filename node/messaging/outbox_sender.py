"""Sends the messages of the outbox to their peers, with retries until acknowledged.

Spec: specs/core.md#outbox. One queue per peer, in order, with several messages in flight; a message
is removed when its receiver has acknowledged it, which it does after its own commit. A message
without a deadline is tried once; a message outside the outbox is lost when the node ends.
"""

import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import trio

from node.driver.clock import Clock
from node.storage.journal import Journal, OutboxRow
from protocol.values.errors import PeerUnreachable
from protocol.values.ids import PeerId

LOG: Final = logging.getLogger(__name__)
Request = Callable[[PeerId, bytes], Awaitable[bytes]]
Missed = Callable[[PeerId, bytes], None]
PAUSE_S_MIN: Final = 0.2
PAUSE_S_MAX: Final = 20.0
QUEUE_MAX: Final = 4_096
"""The most messages queued for one peer; further ones wait on the disk or are discarded."""
IN_FLIGHT_MAX: Final = 8
"""The most messages that wait for one peer's acknowledgement; node/network/messages.py accepts as
many. Only one does before the peer has acknowledged any: it may be away."""
TIDY_S: Final = 60.0
"""How often expired messages are removed from the disk."""
DELETE_S: Final = 0.25
"""How long acknowledged messages gather before they are deleted from the disk."""
IDLE_S: Final = 30.0
"""A peer's queue is closed after this long without a message."""


@dataclass(slots=True, eq=False)
class _Line:
    """The messages queued for one peer."""

    queue: dict[int, OutboxRow] = field(default_factory=dict)
    """In order, by a running number; a message leaves when it has arrived or is given up."""
    count: int = 0
    """The number of the last one."""
    changed: trio.Event = field(default_factory=trio.Event)
    """Set when a message has joined or left the queue."""
    nudged: trio.Event = field(default_factory=trio.Event)

    async def wait_changed(self) -> None:
        self.changed = trio.Event()
        await self.changed.wait()


@dataclass(slots=True, eq=False)
class _Flight:
    """The messages of one line that are on their way."""

    count: int = 0
    room: int = 1
    failed: bool = False


def _ignore(_peer: PeerId, _envelope: bytes) -> None:
    return


class OutboxSender:
    """Sends messages, with one task for every peer that has any queued.

    `missed` is called with each message that did not reach its peer before its deadline.
    """

    def __init__(
        self, request: Request, journal: Journal, clock: Clock, missed: Missed = _ignore
    ) -> None:
        self._request = request
        self._missed = missed
        self._journal = journal
        self._clock = clock
        self._lines: dict[PeerId, _Line] = {}
        self._nursery: trio.Nursery | None = None
        self._sent: list[int] = []
        """The rows of messages that have arrived or were given up, and are still on the disk."""
        self._leaving = trio.Event()
        self._left = trio.Event()

    async def run(
        self, waiting: Sequence[OutboxRow], task_status: Any = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Deliver the messages of an earlier run and those given to `send`, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._tidy)
            for message in waiting:
                self.send(message)
            task_status.started()
            try:
                await self._delete_sent()
            finally:
                self._nursery = None  # Further messages wait on the disk for the next start.

    def send(self, message: OutboxRow) -> None:
        """Queue a message for its peer."""
        if self._nursery is None:
            return
        line = self._lines.get(message.peer)
        if line is None:
            line = self._lines[message.peer] = _Line()
            self._nursery.start_soon(self._serve, message.peer, line)
        if len(line.queue) < QUEUE_MAX:
            line.count += 1
            line.queue[line.count] = message
            line.changed.set()
        elif message.row:
            # It stays on the disk until its deadline or the next start: otherwise a stranger that
            # causes messages and acknowledges none would fill our memory.
            LOG.debug("the queue of peer %s is full: a message waits on the disk", message.peer)

    def nudge(self, peer: PeerId) -> None:
        """Retry at once: the peer is connected again."""
        if peer in self._lines:
            self._lines[peer].nudged.set()

    async def wait_empty(self) -> None:
        """Wait until all queues are empty."""
        while any(line.queue for line in self._lines.values()):
            await self._left.wait()

    async def _tidy(self) -> None:
        while True:
            await trio.sleep(TIDY_S)
            await self._journal.drop_expired(self._clock.now_ms())

    async def _delete_sent(self) -> None:
        """Delete rows together: if they are still there after a crash, they are only resent."""
        while True:
            await self._leaving.wait()
            self._leaving = trio.Event()
            await trio.sleep(DELETE_S)
            rows, self._sent = self._sent, []
            await self._journal.sent(rows)

    async def _serve(self, peer: PeerId, line: _Line) -> None:
        pause_s = PAUSE_S_MIN
        while await self._wait_for_message(line):
            line.nudged = trio.Event()
            if await self._deliver_all(line):
                pause_s = PAUSE_S_MIN
                continue
            with trio.move_on_after(pause_s * random.uniform(0.8, 1.2)) as pause:  # noqa: S311
                await line.nudged.wait()
            # A peer that has just connected may be unable to answer yet: retry soon.
            again_s = min(2 * pause_s, PAUSE_S_MAX)
            pause_s = again_s if pause.cancelled_caught else PAUSE_S_MIN
        del self._lines[peer]

    async def _wait_for_message(self, line: _Line) -> bool:
        """Wait for a message; return whether there is one. An idle queue is closed."""
        with trio.move_on_after(IDLE_S):
            while not line.queue:
                await line.wait_changed()
        return bool(line.queue)

    async def _deliver_all(self, line: _Line) -> bool:
        """Send the messages in order until none is left; return False as soon as one fails.

        What has not arrived then stays in the queue, in its order.
        """
        flight, begun = _Flight(), 0
        async with trio.open_nursery() as nursery:
            while not flight.failed:
                following = next((number for number in line.queue if number > begun), None)
                if following is None and not flight.count:
                    break
                if following is None or flight.count >= flight.room:
                    await line.wait_changed()
                    continue
                begun = following
                message = line.queue[following]
                if message.until_ms and self._clock.now_ms() > message.until_ms:
                    self._give_up(line, following)
                    continue
                flight.count += 1
                nursery.start_soon(self._deliver, line, following, flight)
                # What is started before a checkpoint runs before what is started after it.
                await trio.lowlevel.checkpoint()
        return not flight.failed

    async def _deliver(self, line: _Line, number: int, flight: _Flight) -> None:
        message = line.queue[number]
        try:
            await self._request(message.peer, message.envelope)
        except PeerUnreachable:
            if message.until_ms:
                flight.failed = True
            else:
                self._give_up(line, number)
        else:
            flight.room = IN_FLIGHT_MAX
            self._forget(line, number)
        flight.count -= 1
        line.changed.set()

    def _give_up(self, line: _Line, number: int) -> None:
        message = line.queue[number]
        self._missed(message.peer, message.envelope)
        self._forget(line, number)

    def _forget(self, line: _Line, number: int) -> None:
        message = line.queue.pop(number)
        if message.row:
            self._sent.append(message.row)
            self._leaving.set()
        self._left.set()
        self._left = trio.Event()
