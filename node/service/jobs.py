"""The jobs of the node's owner: submit, show, follow, cancel, and read their logs and outputs.

Spec: specs/rpc.md#service.
"""

import os
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, replace
from functools import partial
from pathlib import Path
from typing import Final

import trio

from node.driver.clock import Clock
from node.driver.driver import Driver
from node.driver.job_events import PHASES, event_view, kind_of
from node.requester.job_view import job_view
from node.requester.results import Results
from node.rpc.views import JobEventView, JobView, OutputView, PhaseCounts, QueueView
from node.service.images import ImageService
from node.storage.journal import JobRow, Journal
from protocol.core.jobs import Ending, Job
from protocol.machines.effects import Progress, Report
from protocol.machines.inputs import JobCancelled, JobSubmitted
from protocol.values.errors import BlobUnavailable, Conflict, NotFound
from protocol.values.ids import Digest, JobId
from protocol.wire.job import JobSpec
from protocol.wire.snapshot import from_snapshot

PREFIX_MIN: Final = 6
FOUND_MAX: Final = 10
"""The most jobs with the same prefix that are counted."""
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
        self._outputs: dict[JobId, dict[str, OutputView]] = {}
        self._submitting = trio.Lock()

    def recover(
        self, jobs: Iterable[Job], phases: Mapping[JobId, str], counts: Mapping[str, int]
    ) -> None:
        """Adopt the open jobs of an earlier run, their phases, and the counts by state."""
        self._open.update(job.job_id for job in jobs)
        self._phases.update(phases)
        self._ended.update({state: n for state, n in counts.items() if state != Ending.OPEN})

    # --- the API --------------------------------------------------------------------------

    async def submit(self, spec: JobSpec) -> JobView:
        async with self._submitting:  # Two concurrent requests with one key make one job.
            known = await self._same_key(spec)
            if known is not None:
                return await self._view(known)
            job_id = JobId(secrets.token_bytes(16))
            whole = await self._images.hold(job_id, spec)
            try:
                # The job is open once the driver has saved it: see `saved`.
                await self._driver.take(JobSubmitted(job_id, whole))
            finally:
                if job_id not in self._open:
                    self._images.release(job_id)
        return await self.get(job_id.hex())

    async def page(self, limit: int, before: str | None) -> tuple[JobView, ...]:
        last = None if before is None else (await self._find(before)).job_id
        found = await self._read(partial(self._journal.jobs, limit, last))
        return tuple([await self._view(job) for job in found])

    async def get(self, reference: str) -> JobView:
        job = await self._find(reference)
        view, place = await self._view(job), self._driver.core.place_of(job.job_id)
        return replace(view, queue=QueueView(*astuple(place)) if place else None)

    async def cancel(self, reference: str) -> JobView:
        job = await self._find(reference)
        await self._driver.take(JobCancelled(job.job_id))
        return await self.get(job.job_id.hex())

    async def events(self, reference: str, after: int) -> AsyncIterator[JobEventView]:
        job_id, shown = (await self._find(reference)).job_id, None
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
            await news.wait()

    async def logs(self, reference: str, offset: int, follow: bool) -> AsyncIterator[bytes]:  # noqa: FBT001
        job_id = (await self._find(reference)).job_id
        path = self._results.log_path(job_id)
        with self._results.reading(job_id):
            while True:
                ended = self._has_ended(job_id)
                chunk, size = await trio.to_thread.run_sync(_read_at, path, offset)
                if follow and size < offset:
                    offset = 0  # Another attempt has started a new log.
                    continue
                offset += len(chunk)
                if chunk:
                    yield chunk
                elif ended or not follow:
                    return
                else:
                    await trio.sleep(LOG_POLL_S)

    async def outputs(self, reference: str) -> tuple[OutputView, ...]:
        return tuple((await self._left_by(await self._find(reference))).values())

    async def output(self, reference: str, path: str) -> tuple[OutputView, Path]:
        found = (await self._left_by(await self._find(reference))).get(path)
        if found is None:
            raise NotFound(f"the job has no output {path!r}")
        place = self._results.output_path(found)
        if place is None:
            raise BlobUnavailable(f"output {path!r} is no longer stored here")
        return found, place

    def counts(self) -> PhaseCounts:
        """Return the number of jobs in each phase."""
        return PhaseCounts(**(self._ended + Counter(self._phases.values())))

    # --- notices of the driver ------------------------------------------------------------

    def saved(self, job: Job) -> None:
        """Record that a job is open, in its first or a later attempt, or has ended."""
        if job.ending is Ending.OPEN:
            self._open.add(job.job_id)
            return
        self._open.discard(job.job_id)
        self._ended[job.ending.value] += 1
        self._phases.pop(job.job_id, None)
        self._progress.pop(job.job_id, None)
        self._images.release(job.job_id)
        self._wake(job.job_id)

    def reported(self, report: Report) -> None:
        """Record the phase of a job after an event, and wake its followers."""
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

    async def _find(self, reference: str) -> Job:
        wanted = reference.lower()
        found = await self._read(partial(self._journal.find_jobs, wanted, FOUND_MAX))
        if len(wanted) < PREFIX_MIN or not found:
            raise NotFound(f"no job {reference!r}; `mutirao jobs` lists them")
        if len(found) > 1:
            raise NotFound(f"{len(found)} jobs begin with {reference!r}; give more digits")
        return found[0]

    async def _read(self, rows_of: Callable[[], Awaitable[Sequence[JobRow]]]) -> list[Job]:
        """Return the jobs of rows, read again until they agree with `saved`."""
        while True:
            rows = await rows_of()
            if all((row.state == Ending.OPEN) == (row.job_id in self._open) for row in rows):
                return [from_snapshot(Job, row.data) for row in rows]

    async def _same_key(self, spec: JobSpec) -> Job | None:
        row = await self._journal.job_of_key(spec.key)
        if row is None:
            return None
        job: Job = from_snapshot(Job, row.data)
        workload = replace(spec.workload, image_bytes=job.spec.workload.image_bytes)
        if job.spec != replace(spec, workload=workload):
            raise Conflict("this idempotency key belongs to a job with different content")
        return job

    async def _left_by(self, job: Job) -> dict[str, OutputView]:
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
