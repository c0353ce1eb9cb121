"""The driver: the one loop that lets the core meet the world.

Spec: specs/core.md#driver. One input, then one transaction, then every effect, then the next
input. What takes long runs beside the loop and comes back as an input; nothing but this loop
touches the core.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import trio

from node.daemon.clock import Clock
from node.daemon.durable import commit_of
from node.storage.journal import Journal, OutboxRow
from protocol.core.core import Core
from protocol.machines.effects import Effect, Report, Save, Send, Settle
from protocol.machines.inputs import DeadlineReached, Input

INBOX_MAX: Final = 4_096
"""Inputs that wait for their turn: beyond that, gossip is dropped and all else waits outside."""


class Inbox(Protocol):
    """Where those who do things tell what came of it."""

    def give(self, event: Input) -> bool:
        """Queue an input that may be lost; say whether there was room."""
        ...

    async def take(self, event: Input) -> None:
        """Queue an input and wait until what it causes is on the disk and begun."""
        ...


class Ports(Protocol):
    """What the driver needs of the world. Nothing here waits."""

    def send(self, message: OutboxRow) -> None:
        """Send a message of the outbox; its row is 0 if it is not in the outbox."""
        ...

    def perform(self, effect: Effect) -> None:
        """Do what an effect asks for, or begin it."""
        ...

    def written(self, effect: Save | Settle | Report) -> None:
        """Take note that this is on the disk."""
        ...


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
        self._outbox, self._inbox = trio.open_memory_channel[_Turn](INBOX_MAX)

    def give(self, event: Input) -> bool:
        """Queue an input that may be lost; say whether there was room."""
        try:
            self._outbox.send_nowait(_Turn(event, None))
        except trio.WouldBlock:
            return False
        return True

    async def take(self, event: Input) -> None:
        """Queue an input and wait until what it causes is on the disk and begun."""
        taken = trio.Event()
        await self._outbox.send(_Turn(event, taken))
        await taken.wait()

    async def run(self, ports: Ports, first: Sequence[Effect]) -> None:
        """Perform the effects of the recovery, then drive until cancelled."""
        await self._settle(ports, first)
        while True:
            turn = await self._next()
            effects = self.core.handle(turn.event, self._clock.now_ms())
            # Once the core has moved, the disk must follow: a cancellation waits.
            with trio.CancelScope(shield=True):
                await self._settle(ports, effects)
            if turn.taken is not None:
                turn.taken.set()

    async def _next(self) -> _Turn:
        deadline_ms = self.core.next_deadline_ms()
        wait_s = math.inf
        if deadline_ms is not None:
            wait_s = max(0, deadline_ms - self._clock.now_ms()) / 1000
        with trio.move_on_after(wait_s):
            return await self._inbox.receive()
        return _Turn(DeadlineReached(), None)

    async def _settle(self, ports: Ports, effects: Sequence[Effect]) -> None:
        """Write what must be written, then do everything in order."""
        rows: list[int] = []
        commit = commit_of(effects, self.core.signer.peer_id, self._clock.now_ms())
        if commit is not None:
            rows = list((await self._journal.commit(commit)).outbox_rows)
        for effect in effects:
            match effect:
                case Send(peer, envelope, until_ms):
                    row = rows.pop(0) if until_ms else 0
                    ports.send(OutboxRow(row, peer, envelope, until_ms))
                case Save() | Settle() | Report():
                    ports.written(effect)
                case _:
                    ports.perform(effect)
