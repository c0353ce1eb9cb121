"""The answers of this node to calls, on its disk.

Spec: specs/bids.md#storage.
"""

import logging
from dataclasses import replace
from typing import Final

import trio

from node.storage.journal import Journal, Snapshot
from protocol.machines.answers import AnsweredCall, BidResult
from protocol.machines.effects import Note
from protocol.values.errors import StorageFull
from protocol.wire.snapshot import from_snapshot, to_snapshot

LOG: Final = logging.getLogger(__name__)
WRITE_S: Final = 1
"""A note that no commit has written is written after this long, with all others."""


class BidLog:
    """Stores answers with the commits of the node, and in one of its own if there are none."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._noted = trio.Event()

    def note(self, note: Note) -> None:
        """Store an answer soon, in place of an earlier state of it."""
        answered = note.answered
        self._journal.note(
            Snapshot("answer", answered.call_id, answered.result.value, to_snapshot(answered))
        )
        self._noted.set()

    async def recover(self) -> None:
        """End the bids that an earlier run left open: a bid does not outlive its node."""
        for data in await self._journal.answers_in(BidResult.OPEN.value):
            why = "this node restarted before the auction ended"
            self.note(Note(replace(_read(data), result=BidResult.SILENT, why=why)))

    async def newest(self, limit: int) -> tuple[AnsweredCall, ...]:
        """Return at most so many answers, the newest first."""
        await self.write()
        return tuple(map(_read, await self._journal.answers(limit)))

    async def write(self) -> None:
        """Write what is only noted, if there is room for it."""
        try:
            await self._journal.write_notes()
        except StorageFull as error:
            LOG.warning("bids are not stored: %s", error)

    async def run(self) -> None:
        """Write what no commit of the node writes, until cancelled."""
        while True:
            await self._noted.wait()
            self._noted = trio.Event()
            await trio.sleep(WRITE_S)
            await self.write()


def _read(data: bytes) -> AnsweredCall:
    answered: AnsweredCall = from_snapshot(AnsweredCall, data)
    return answered
