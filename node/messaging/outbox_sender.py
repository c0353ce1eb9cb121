"""Sends the messages of the outbox to their peers until they have them.

Spec: specs/core.md#outbox. One queue a peer, in order; a message is forgotten when its receiver
has acknowledged it, which it does after its own commit. What has no deadline is tried once; what is
not in the outbox is forgotten when the node ends.
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
"""Messages that wait for one peer; a peer that does not take so many gets no more for now."""
TIDY_S: Final = 60.0
"""Messages of no more use, whose turn did not come, are removed from the disk this often."""
IDLE_S: Final = 30.0
"""A peer's queue is closed after this long without a message."""


def _ignore(_peer: PeerId, _envelope: bytes) -> None:
    return


class OutboxSender:
    """Sends messages; one task for every peer that has some to get.

    `missed` is told of each message that is given up: it did not reach its peer in its time.
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
        """Deliver what an earlier run left, and what `send` is given, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for message in waiting:
                self.send(message)
            task_status.started()
            try:
                await self._tidy()
            finally:
                self._nursery = None  # What is sent from now on goes out after the next start.

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
            # It stays on the disk until its time is over, or the next start: else a stranger who
            # makes us talk and does not listen would fill our memory.
            LOG.debug("peer %s does not accept its messages: they stay in the outbox", message.peer)

    def nudge(self, peer: PeerId) -> None:
        """Try at once: the peer is connected again."""
        if peer in self._nudged:
            self._nudged[peer].set()

    async def wait_empty(self) -> None:
        """Wait until every peer that answers has everything."""
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
                # Who has just connected may not serve us yet, but soon will.
                again_s = min(2 * pause_s, PAUSE_S_MAX)
                pause_s = again_s if pause.cancelled_caught else PAUSE_S_MIN
            else:
                pause_s = PAUSE_S_MIN
                await self._forget(queue)
        del self._queues[peer], self._woken[peer], self._nudged[peer]

    async def _wait_for_message(self, peer: PeerId, queue: deque[OutboxRow]) -> bool:
        """Say whether there is one; an idle queue is closed."""
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
