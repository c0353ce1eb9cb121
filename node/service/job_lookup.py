"""Finds jobs in the journal by what their user calls them.

Spec: specs/rpc.md#routes, specs/arrays.md#identity.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from typing import Final

from node.storage.journal import JobRow, Journal
from protocol.core.jobs import Ending, Job
from protocol.values.errors import Conflict, NotFound
from protocol.values.ids import JobId
from protocol.wire.job import ARRAY_ID_BYTES, ARRAY_INDEX_MAX, member_id
from protocol.wire.snapshot import from_snapshot

PREFIX_MIN: Final = 6
FOUND_MAX: Final = 10
"""The most jobs with the same prefix that are counted."""
MEMBER: Final = re.compile(r"([0-9A-Fa-f]+)\[(\d{1,10})\]")
"""A member of an array: 3f9a0c[17]."""


class JobLookup:
    """Reads jobs from the journal as they are known to be: open or ended."""

    def __init__(self, journal: Journal, is_open: AbstractSet[JobId]) -> None:
        """Take the open jobs, as they are at any time."""
        self._journal = journal
        self._open = is_open

    async def one(self, reference: str, *, gang: bool = False) -> Job:
        """Return one job; NotFound, or Conflict if the reference is that of an array.

        With `gang`, a gang stands for its first member.
        """
        job = await self.first(reference)
        if is_array(reference, job) and not (gang and job.spec.gang):
            raise Conflict(f"{reference} is an array: name one of its jobs, {reference}[INDEX]")
        return job

    async def first(self, reference: str) -> Job:
        """Return a job, or the first member of an array; NotFound."""
        named = MEMBER.fullmatch(reference)
        if named is not None:
            return await self._member(named[1], int(named[2]))
        wanted = reference.lower()
        found = await self._read(partial(self._journal.find_jobs, wanted, FOUND_MAX))
        if len(wanted) < PREFIX_MIN or not found:
            raise NotFound(f"no job {reference!r}; `mutirao jobs` lists them")
        arrays = {job.spec.array or job.job_id for job in found}
        if len(arrays) > 1 or (len(found) > 1 and not is_array(reference, found[0])):
            raise NotFound(f"{len(found)} jobs begin with {reference!r}; give more digits")
        return found[0]

    async def newest(self, limit: int, before: JobId | None) -> list[Job]:
        """Return the newest jobs, or the newest that came before one; of an array the first."""
        return await self._read(partial(self._journal.jobs, limit, before))

    async def _member(self, reference: str, index: int) -> Job:
        array = (await self.first(reference)).spec.array
        if array and index <= ARRAY_INDEX_MAX:
            wanted = member_id(array, index)
            found = await self._read(partial(self._journal.jobs_between, wanted, wanted))
            if found:
                return found[0]
        raise NotFound(f"no job {reference}[{index}]; `mutirao jobs {reference}` lists the members")

    async def _read(self, rows_of: Callable[[], Awaitable[Sequence[JobRow]]]) -> list[Job]:
        """Return the jobs of rows, read again until they agree with what is open."""
        while True:
            rows = await rows_of()
            if all((row.state == Ending.OPEN) == (row.job_id in self._open) for row in rows):
                return [from_snapshot(Job, row.data) for row in rows]


def is_array(reference: str, job: Job) -> bool:
    """Return whether a reference that was found to be a job means its whole array."""
    return bool(job.spec.array) and len(reference) <= 2 * ARRAY_ID_BYTES and "[" not in reference
