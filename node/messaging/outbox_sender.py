"""Sends the messages of the outbox to their peers, with retries until acknowledged.

Spec: specs/core.md#outbox. One queue per peer, in order; a message is removed when its receiver has
acknowledged it, which it does after its own commit. A message without a deadline is tried once; a
message outside the outbox is lost when the node ends.
"""

import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
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
TIDY_S: Final = 60.0
"""How often expired messages are removed from the disk."""
IDLE_S: Final = 30.0
"""A peer's queue is closed after this long without a message."""


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
        self._queues: dict[PeerId, deque[OutboxRow]] = {}
        self._woken: dict[PeerId, trio.Event] = {}
        self._nudged: dict[PeerId, trio.Event] = {}
        self._nursery: trio.Nursery | None = None
        self._delivered = trio.Event()

    async def run(
        self, waiting: Sequence[OutboxRow], task_status: Any = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Deliver the messages of an earlier run and those given to `send`, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for message in waiting:
                self.send(message)
            task_status.started()
            try:
                await self._tidy()
            finally:
                self._nursery = None  # Further messages wait on the disk for the next start.

    def send(self, message: OutboxRow) -> None:
        """Queue a message for its peer."""
        if self._nursery is None:
            return
        queue = self._queues.get(message.peer)
        if queue is None:
            queue = self._queues[message.peer] = deque()
            self._woken[message.peer] = trio.Event()
            self._nudged[message.peer] = trio.Event()
            self._nursery.start_soon(self._serve, message.peer, queue)
        if len(queue) < QUEUE_MAX:
            queue.append(message)
            self._woken[message.peer].set()
        elif message.row:
            # It stays on the disk until its deadline or the next start: otherwise a stranger that
            # causes messages and acknowledges none would fill our memory.
            LOG.debug("the queue of peer %s is full: a message waits on the disk", message.peer)

    def nudge(self, peer: PeerId) -> None:
        """Retry at once: the peer is connected again."""
        if peer in self._nudged:
            self._nudged[peer].set()

    async def wait_empty(self) -> None:
        """Wait until all queues are empty."""
        while any(self._queues.values()):
            await self._delivered.wait()

    async def _tidy(self) -> None:
        while True:
            await trio.sleep(TIDY_S)
            await self._journal.drop_expired(self._clock.now_ms())

    async def _serve(self, peer: PeerId, queue: deque[OutboxRow]) -> None:
        pause_s = PAUSE_S_MIN
        while await self._wait_for_message(peer, queue):
            message = queue[0]
            if message.until_ms and self._clock.now_ms() > message.until_ms:
                self._missed(peer, message.envelope)
                await self._forget(queue)
                continue
            self._nudged[peer] = trio.Event()
            try:
                await self._request(peer, message.envelope)
            except PeerUnreachable:
                if not message.until_ms:
                    self._missed(peer, message.envelope)
                    await self._forget(queue)
                    continue
                with trio.move_on_after(pause_s * random.uniform(0.8, 1.2)) as pause:  # noqa: S311
                    await self._nudged[peer].wait()
                # A peer that has just connected may be unable to answer yet: retry soon.
                again_s = min(2 * pause_s, PAUSE_S_MAX)
                pause_s = again_s if pause.cancelled_caught else PAUSE_S_MIN
            else:
                pause_s = PAUSE_S_MIN
                await self._forget(queue)
        del self._queues[peer], self._woken[peer], self._nudged[peer]

    async def _wait_for_message(self, peer: PeerId, queue: deque[OutboxRow]) -> bool:
        """Wait for a message; return whether there is one. An idle queue is closed."""
        with trio.move_on_after(IDLE_S):
            while not queue:
                self._woken[peer] = trio.Event()
                await self._woken[peer].wait()
        return bool(queue)

    async def _forget(self, queue: deque[OutboxRow]) -> None:
        message = queue.popleft()
        if message.row:
            await self._journal.sent(message.row)
        self._delivered.set()
        self._delivered = trio.Event()
