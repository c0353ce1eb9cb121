"""The jobs of the node's owner: submit, show, follow, cancel, and read their logs and outputs.

Spec: specs/rpc.md#service.
"""

import math
import os
import secrets
from collections import Counter
from collections.abc import (
    AsyncIterator,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

import trio

from node.data.output_manifest import ListedOutput
from node.driver.clock import Clock
from node.driver.driver import Driver
from node.driver.job_events import PHASES, event_view, kind_of
from node.requester.job_view import job_view
from node.requester.results import Results
from node.rpc.job_views import (
    ArrayView,
    JobEventView,
    JobView,
    MemberView,
    OutputView,
    QueueView,
)
from node.rpc.service import StoredOutput
from node.rpc.views import PhaseCounts
from node.service.arrays import ENDED, Arrays, bounds_of, is_same, outcome_of
from node.service.images import ImageService
from node.service.job_lookup import JobLookup, is_array
from node.service.places import PLACE_POLL_S, queue_view
from node.storage.journal import Journal
from protocol.core.jobs import Ending, Job
from protocol.machines.effects import Progress, Report
from protocol.machines.inputs import ArraySubmitted, JobCancelled, JobSubmitted
from protocol.values.errors import BlobUnavailable, Conflict, NotFound
from protocol.values.ids import Digest, JobId
from protocol.wire.job import (
    ARRAY_ID_BYTES,
    JobSpec,
    array_of,
    member_id,
)
from protocol.wire.snapshot import from_snapshot

LOG_POLL_S: Final = 0.05
LOG_CHUNK: Final = 64 * 1024
OUTPUTS_KEPT_MAX: Final = 2
"""The most jobs whose list of outputs stays in memory: 10,000 files take about 5 MiB."""


class JobService:
    """Implements node.rpc.service.JobApi."""

    def __init__(
        self,
        driver: Driver,
        journal: Journal,
        clock: Clock,
        images: ImageService,
        results: Results,
    ) -> None:
        self._driver = driver
        self._journal = journal
        self._clock = clock
        self._images = images
        self._results = results
        self._open: set[JobId] = set()
        self._ended: Counter[str] = Counter()
        """The number of ended jobs, by ending."""
        self._phases: dict[JobId, str] = {}
        self._news: dict[JobId, trio.Event] = {}
        self._progress: dict[JobId, Progress] = {}
        self._outputs: dict[JobId, dict[str, ListedOutput]] = {}
        self._reopened: dict[JobId, Ending] = {}
        """How ended jobs that are to run again had ended, until they are saved as open."""
        self._submitting = trio.Lock()
        self._taken = trio.Event()
        """Set unless the driver has yet to take the last submission."""
        self._taken.set()
        self._lookup = JobLookup(journal, self._open)
        self._arrays = Arrays(journal, clock, self._open, self._phases, driver.core.place_of)

    def recover(
        self, jobs: Iterable[Job], phases: Mapping[JobId, str], counts: Mapping[str, int]
    ) -> None:
        """Adopt the open jobs of an earlier run, their phases, and the counts by state."""
        self._open.update(job.job_id for job in jobs)
        self._phases.update(phases)
        self._ended.update({state: n for state, n in counts.items() if state != Ending.OPEN})

    # --- the API --------------------------------------------------------------------------

    async def submit(self, spec: JobSpec) -> JobView:
        async with self._in_turn():
            known = await self._same_key(spec)
            if known is not None:
                return await self._view(known)
            job_id = JobId(secrets.token_bytes(16))
            await self._start({job_id: spec})
        return await self._one(await self._lookup.one(job_id.hex()))

    async def submit_array(self, specs: Sequence[JobSpec], indices: Sequence[int]) -> ArrayView:
        async with self._in_turn():
            row = await self._journal.job_of_key(specs[0].key)
            if row is not None:
                known: Job = from_snapshot(Job, row.data)
                await self._arrays.require_same(known.spec.array, specs, indices)
                return await self._arrays.view(known.spec.array)
            array = secrets.token_bytes(ARRAY_ID_BYTES)
            members = array_of(specs, array, indices)
            await self._start({member_id(array, spec.index): spec for spec in members})
        return await self._arrays.view(array)

    async def retry(self, reference: str) -> JobView | ArrayView:
        job = await self._lookup.first(reference)
        async with self._in_turn():
            ids = await self._failed_of(job, whole=is_array(reference, job))
            rows = await self._journal.jobs_between(min(ids), max(ids)) if ids else ()
            jobs: list[Job] = [from_snapshot(Job, row.data) for row in rows if row.job_id in ids]
            self._reopened = {each.job_id: each.ending for each in jobs}
            await self._start({each.job_id: each.spec for each in jobs})
        return await self.get(reference)

    async def members(self, reference: str, limit: int, after: int) -> tuple[MemberView, ...]:
        job = await self._lookup.first(reference)
        if not job.spec.array:
            raise Conflict(f"job {job.job_id.hex()[:12]} is no array")
        found = await self._arrays.members(job.spec.array)
        return tuple(member for member in found if member.index > after)[:limit]

    async def page(self, limit: int, before: str | None) -> tuple[JobView | ArrayView, ...]:
        last = None if before is None else (await self._lookup.first(before)).job_id
        found = await self._lookup.newest(limit, last)
        return tuple([
            await (self._arrays.view(job.spec.array) if job.spec.array else self._one(job))
            for job in found
        ])  # fmt: skip

    async def get(self, reference: str) -> JobView | ArrayView:
        job = await self._lookup.first(reference)
        if is_array(reference, job):
            return await self._arrays.view(job.spec.array)
        return await self._one(job)

    async def job(self, reference: str) -> tuple[Job, JobView]:
        """Return a job with its view; NotFound, or Conflict if the reference is an array's.

        A gang stands for its first member.
        """
        job = await self._lookup.one(reference, gang=True)
        return job, await self._one(job)

    async def cancel(self, reference: str) -> JobView | ArrayView:
        job = await self._lookup.first(reference)
        ids = [job.job_id]
        if is_array(reference, job):
            members = await self._journal.states_between(*bounds_of(job.spec.array))
            # The last ones first: they may be held until the others have ended.
            ids = [job_id for job_id in reversed([*members]) if job_id in self._open]
        # All at once, so that they share transactions.
        for taken in [await self._driver.put(JobCancelled(job_id)) for job_id in ids]:
            await taken.wait()
        return await self.get(reference)

    async def events(self, reference: str, after: int) -> AsyncIterator[JobEventView]:
        job = await self._lookup.first(reference)
        if is_array(reference, job):
            async for event in self._arrays.events(job.spec.array):
                yield event
            return
        job_id, shown = job.job_id, None
        place: QueueView | None = None
        while True:
            # Read before the events: all events of an ended job are on the disk.
            ended, news = self._has_ended(job_id), self._news_of(job_id)
            for row in await self._journal.events(job_id, after):
                after = row.seq
                yield event_view(row)
            if ended:
                return
            progress = self._progress.get(job_id)
            if progress is not None and progress is not shown:
                shown = progress
                detail = {"fetched": progress.fetched, "total": progress.total}
                yield JobEventView(after, self._clock.now_ms(), "progress", detail)
            before, place = place, self._place(job_id)
            if place is not None and place != before:
                yield JobEventView(after, self._clock.now_ms(), "place", asdict(place))
            with trio.move_on_after(PLACE_POLL_S if place else math.inf):
                await news.wait()

    async def logs(self, reference: str, offset: int, follow: bool) -> AsyncIterator[bytes]:  # noqa: FBT001
        job_id = (await self._lookup.one(reference, gang=True)).job_id
        path = self._results.log_path(job_id)
        with self._results.reading(job_id):
            seen = 0
            while True:
                ended = self._has_ended(job_id)
                chunk, size = await trio.to_thread.run_sync(_read_at, path, offset)
                if follow and size < seen:
                    offset = seen = 0  # Another attempt has started a new log.
                    continue
                offset, seen = offset + len(chunk), size
                if chunk:
                    yield chunk
                elif ended or not follow:
                    return
                else:
                    await trio.sleep(LOG_POLL_S)

    async def outputs(self, reference: str) -> tuple[OutputView, ...]:
        found = await self._left_by(await self._lookup.one(reference))
        return tuple(each.view for each in found.values())

    async def output(self, reference: str, path: str) -> StoredOutput:
        found = (await self._left_by(await self._lookup.one(reference))).get(path)
        if found is None:
            raise NotFound(f"the job has no output {path!r}")
        return self._stored(found)

    async def stored_outputs(self, reference: str) -> tuple[StoredOutput, ...]:
        found = await self._left_by(await self._lookup.one(reference))
        return tuple(self._stored(each) for each in found.values())

    def counts(self) -> PhaseCounts:
        """Return the number of jobs in each phase."""
        phases = Counter(self._phases.get(job_id, "queued") for job_id in self._open)
        return PhaseCounts(**(self._ended + phases))

    # --- notices of the driver ------------------------------------------------------------

    def saved(self, job: Job) -> None:
        """Record that a job is open, in its first or a later attempt, or has ended."""
        if job.ending is Ending.OPEN:
            self._open.add(job.job_id)
            if job.job_id in self._reopened:
                self._ended[self._reopened.pop(job.job_id).value] -= 1
                self._outputs.pop(job.job_id, None)
            return
        self._open.discard(job.job_id)
        self._arrays.revision += 1
        self._ended[job.ending.value] += 1
        self._phases.pop(job.job_id, None)
        self._progress.pop(job.job_id, None)
        self._images.release(job.job_id)
        self._wake(job.job_id)

    def reported(self, report: Report) -> None:
        """Record the phase of a job after an event, and wake its followers."""
        self._arrays.revision += 1
        kind = kind_of(report.event)
        self._phases[report.job_id] = PHASES.get(kind, kind)
        self._wake(report.job_id)

    def progressed(self, progress: Progress) -> None:
        """Record the progress of a provider's fetch, and wake the job's followers."""
        self._progress[progress.job_id] = progress
        self._wake(progress.job_id)

    # --- details --------------------------------------------------------------------------

    def _wake(self, job_id: JobId) -> None:
        news = self._news.pop(job_id, None)
        if news is not None:
            news.set()

    def _news_of(self, job_id: JobId) -> trio.Event:
        """Return an event that is set at the next change of a job, never for an ended job."""
        if self._has_ended(job_id):
            return trio.Event()
        return self._news.setdefault(job_id, trio.Event())

    def _has_ended(self, job_id: JobId) -> bool:
        return job_id not in self._open

    @asynccontextmanager
    async def _in_turn(self) -> AsyncIterator[None]:
        """Let one request at a time open jobs: two with one key make one job."""
        async with self._submitting:
            await self._taken.wait()  # The caller of the last one may have left.
            yield

    async def _start(self, jobs: Mapping[JobId, JobSpec]) -> None:
        """Open jobs, all or none. Once the driver has the input, it does not matter who waits."""
        if not jobs:
            return
        held = await self._images.hold(jobs)
        events = tuple(JobSubmitted(*each) for each in held.items())
        is_given = False
        try:
            event = ArraySubmitted(events) if len(events) > 1 else events[0]
            self._taken = await self._driver.put(event)
            is_given = True
        finally:
            if not is_given:
                for job_id in jobs:
                    self._images.release(job_id)
        await self._taken.wait()  # The jobs are open once the driver has saved them: see `saved`.

    async def _failed_of(self, job: Job, *, whole: bool) -> Collection[JobId]:
        """Return which jobs to run again: those that ended in another way than with code 0.

        With `whole`, of all jobs of the job's array. A gang runs again as a whole, or not.
        """
        if job.spec.gang and not whole:
            raise Conflict("a gang runs again as a whole: name it without the index")
        if whole:
            members = await self._arrays.members(job.spec.array)
            states = {"failed", "cancelled"}
            found = [m for m in members if outcome_of(m) in states]
            if found and job.spec.gang:
                found = list(members) if all(m.phase in ENDED for m in members) else []
            return {JobId(bytes.fromhex(member.id)) for member in found}
        if self._has_ended(job.job_id) and (await self._view(job)).exit_code != 0:
            return {job.job_id}
        return ()

    async def _same_key(self, spec: JobSpec) -> Job | None:
        row = await self._journal.job_of_key(spec.key)
        if row is None:
            return None
        job: Job = from_snapshot(Job, row.data)
        if not is_same(job.spec, spec):
            raise Conflict("this idempotency key belongs to a job with different content")
        return job

    def _stored(self, output: ListedOutput) -> StoredOutput:
        place = self._results.blob_path(output.blob)
        if place is None:
            raise BlobUnavailable(f"output {output.view.path!r} is no longer stored here")
        return StoredOutput(output.view, place, output.offset)

    async def _left_by(self, job: Job) -> dict[str, ListedOutput]:
        """Return a job's outputs by path, cached: a client asks again for each file."""
        if job.job_id in self._outputs:
            return self._outputs[job.job_id]
        view = await self._view(job)
        if view.output_digest is None:
            raise Conflict(f"job {view.id[:12]} is {view.phase}: it has no outputs")
        found = await self._results.outputs(Digest(bytes.fromhex(view.output_digest)))
        if self._has_ended(job.job_id):  # Before the end, the outputs may still change.
            self._outputs = dict([*self._outputs.items(), (job.job_id, found)][-OUTPUTS_KEPT_MAX:])
        return found

    def _place(self, job_id: JobId) -> QueueView | None:
        """Return the place of a job that does nothing but wait."""
        if self._phases.get(job_id, "queued") != "queued":
            return None
        return queue_view(self._driver.core.place_of(job_id))

    async def _one(self, job: Job) -> JobView:
        """Return a job with its place in the queue."""
        view = await self._view(job)
        return replace(view, queue=queue_view(self._driver.core.place_of(job.job_id)))

    async def _view(self, job: Job) -> JobView:
        return job_view(job, await self._journal.events(job.job_id))


def _read_at(path: Path, offset: int) -> tuple[bytes, int]:
    """Return at most LOG_CHUNK bytes of a file from an offset, and the file's size."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(min(offset, size))
            return file.read(LOG_CHUNK), size
    except FileNotFoundError:  # Nothing is written yet.
        return b"", 0
