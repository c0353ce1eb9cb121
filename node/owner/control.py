"""Whether this node takes new jobs: as its owner said last, and as the conditions allow.

Spec: specs/owner.md#modes. What the owner said survives a restart.
"""

import logging
from dataclasses import replace
from enum import StrEnum
from typing import Final

from node.driver.driver import Inbox
from node.storage.journal import Journal
from protocol.machines.context import Policy
from protocol.machines.inputs import PolicyChanged, ReclaimRequested

LOG: Final = logging.getLogger(__name__)
MODE_FACT: Final = "owner-mode"
"""The fact of the journal that holds what the owner said last."""


class OwnerMode(StrEnum):
    """What the owner said last."""

    OPEN = "open"
    PAUSED = "paused"
    DRAINING = "draining"
    RECLAIMED = "reclaimed"


SAID: Final = {
    OwnerMode.OPEN: "",
    OwnerMode.PAUSED: "paused by its owner; `mutirao resume` undoes it",
    OwnerMode.DRAINING: "its owner drains it; `mutirao resume` undoes it",
    OwnerMode.RECLAIMED: "reclaimed by its owner; `mutirao resume` undoes it",
}
"""Why no new jobs are taken in a mode."""


class OwnerControl:
    """Gives the core the policy that applies now."""

    def __init__(self, inbox: Inbox, journal: Journal, lent: Policy) -> None:
        """Take what the node lends when nothing forbids it."""
        self._inbox = inbox
        self._journal = journal
        self.lent = lent
        self.mode = OwnerMode.OPEN
        self.unmet = ""
        """The condition that is not met, for people; empty if all are."""
        self._is_running = False

    @property
    def closed(self) -> str:
        """Why this node takes no new jobs; empty if it does, or lends nothing at all."""
        return (SAID[self.mode] or self.unmet) if self.lent.providing else ""

    @property
    def policy(self) -> Policy:
        """What this node offers now."""
        closed = self.closed
        return replace(self.lent, providing=False, closed=closed) if closed else self.lent

    async def recover(self) -> None:
        """Remember what the owner said before this run."""
        said = await self._journal.fact(MODE_FACT)
        self.mode = OwnerMode(said.decode()) if said else OwnerMode.OPEN

    async def set_mode(self, mode: OwnerMode) -> None:
        """Do what the owner says, now and after a restart."""
        await self._journal.set_fact(MODE_FACT, mode.value.encode())
        before, self.mode = self.closed, mode
        await self._apply(before)

    async def reclaim(self, notice_ms: int) -> None:
        """Take no new jobs, and end those that run: with notice if they can save their state."""
        await self.set_mode(OwnerMode.RECLAIMED)
        await self._inbox.take(ReclaimRequested(notice_ms))

    async def preempt(self) -> bool:
        """End the jobs that run, as a reclaim does; return whether the node runs already."""
        if self._is_running:
            await self._inbox.take(ReclaimRequested(self.lent.notice_ms))
        return self._is_running

    async def lend(self, lent: Policy) -> None:
        """Offer something else from now on."""
        before, self.lent = self.policy, lent
        if self.policy != before and self._is_running:
            await self._inbox.take(PolicyChanged(self.policy))

    async def note_unmet(self, unmet: str) -> None:
        """Take no new jobs while a condition is not met."""
        before, self.unmet = self.closed, unmet
        await self._apply(before)

    def begin(self, lent: Policy) -> Policy:
        """Tell the core of every change from now on; return what the node offers first."""
        self.lent, self._is_running = lent, True
        return self.policy

    def end(self) -> None:
        """Change nothing more: the node stops, and lends nothing from now on."""
        self._is_running = False

    async def _apply(self, before: str) -> None:
        closed = self.closed
        if closed == before or not self._is_running:
            return
        LOG.info("new jobs: %s", closed or "taken again")
        await self._inbox.take(PolicyChanged(self.policy))
