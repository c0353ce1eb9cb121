"""The daemon as its own user sees it: what the local API asks for is answered here.

Spec: specs/rpc.md#service.
"""

import os
import secrets
import shutil
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import trio

from node import VERSION
from node.config import Config
from node.daemon.recovery import Past
from node.data.blobs import Blobs
from node.data.disk import full_disk_as_storage_full
from node.data.images import Images
from node.data.output_manifest import output_views
from node.driver.clock import Clock
from node.driver.driver import Driver
from node.messaging.undelivered import Undelivered
from node.network.host import Network
from node.requester import job_view as story
from node.requester.results import Results
from node.rpc.views import (
    BlobView,
    ImageView,
    JobEventView,
    JobView,
    OfferView,
    OutputView,
    PeerView,
    PhaseCounts,
    ProviderView,
    StatusView,
)
from node.service.offers import gpu_views, offer_view, resources_view
from node.storage.journal import Journal, Totals
from protocol.core.jobs import Ending, Job
from protocol.machines.effects import Progress, Report
from protocol.machines.inputs import JobCancelled, JobSubmitted
from protocol.values.errors import (
    BlobUnavailable,
    Conflict,
    InvalidRequest,
    NotFound,
    StorageFull,
)
from protocol.values.ids import Digest, JobId
from protocol.values.units import credits_of_nano
from protocol.wire.job import JobSpec, faults
from protocol.wire.messages import Listing

DISK_BYTES_MIN: Final = 64 * 1024 * 1024
"""With less than this on the disk no new job is taken on."""
PREFIX_MIN: Final = 6
LOG_POLL_S: Final = 0.05
LOG_CHUNK: Final = 64 * 1024
OUTPUTS_KEPT_MAX: Final = 2
"""Jobs whose list of outputs stays in memory: 10,000 files take about 5 MiB."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of the daemon that its user can reach."""

    config: Config
    clock: Clock
    driver: Driver
    journal: Journal
    network: Network
    blobs: Blobs
    images: Images
    results: Results
    sandbox: str
    sandbox_why: str
    stop: trio.Event
    undelivered: Undelivered


class User:
    """Implements node.rpc.service.Service."""

    def __init__(self, parts: Parts, past: Past, totals: Totals) -> None:
        self._parts = parts
        self._jobs = {job.job_id: job for job in past.saved.jobs}
        self._phases = dict(past.phases)
        self._totals = totals
        self._started_ms = parts.clock.now_ms()
        self._news: dict[JobId, trio.Event] = {}
        self._progress: dict[JobId, Progress] = {}
        self._outputs: dict[JobId, dict[str, OutputView]] = {}
        self._submitting = trio.Lock()

    # --- the node -------------------------------------------------------------------------

    def status(self) -> StatusView:
        parts = self._parts
        return StatusView(
            peer_id=parts.network.peer_id,
            version=VERSION,
            addresses=parts.network.addresses(),
            peers=len(parts.network.peers()),
            uptime_ms=parts.clock.now_ms() - self._started_ms,
            jobs=self._counts(),
            earned=credits_of_nano(self._totals.earned),
            spent=credits_of_nano(self._totals.spent),
            provider=self._provider(),
            data_dir=str(parts.config.data_dir),
        )

    def peers(self) -> tuple[PeerView, ...]:
        return tuple(
            PeerView(peer.peer_id, peer.address, f"{peer.direction}bound", peer.connected_ms)
            for peer in self._parts.network.peers()
        )

    def offers(self) -> tuple[OfferView, ...]:
        now_ms, core = self._parts.clock.now_ms(), self._parts.driver.core
        status = core.status(now_ms)
        known = [offer_view(item, now_ms, None) for item in status.listings]
        if (record := status.record) is not None:
            own = Listing(core.signer.peer_id, record, record.issued_ms + record.ttl_ms)
            known.insert(0, offer_view(own, now_ms, status.free))
        return tuple(known)

    def request_stop(self) -> None:
        self._parts.stop.set()

    # --- jobs -----------------------------------------------------------------------------

    async def submit(self, spec: JobSpec) -> JobView:
        async with self._submitting:  # The same key twice at once is still one job.
            known = self._same_key(spec)
            if known is not None:
                return await self._view(known)
            whole, needed = await self._checked(spec)
            job_id = JobId(secrets.token_bytes(16))
            self._parts.blobs.pin(_pins_of(job_id), *needed)
            try:
                # The job is ours when the driver has written it down: see `opened`.
                await self._parts.driver.take(JobSubmitted(job_id, whole))
            finally:
                if job_id not in self._jobs:
                    self._parts.blobs.unpin(_pins_of(job_id))
        return await self._view(self._jobs[job_id])

    async def jobs(self, limit: int, before: str | None) -> tuple[JobView, ...]:
        last = None if before is None else self._find(before).job_id
        rows = await self._parts.journal.jobs(limit, last)
        # One that is being written at this moment is not ours yet.
        known = [self._jobs[row.job_id] for row in rows if row.job_id in self._jobs]
        return tuple([await self._view(job) for job in known])

    async def job(self, reference: str) -> JobView:
        return await self._view(self._find(reference))

    async def cancel(self, reference: str) -> JobView:
        job = self._find(reference)
        await self._parts.driver.take(JobCancelled(job.job_id))
        return await self._view(job)

    async def events(self, reference: str, after: int) -> AsyncIterator[JobEventView]:
        job_id, shown = self._find(reference).job_id, None
        while True:
            # Looked at first: an ended job's events are all on the disk.
            ended, news = self._has_ended(job_id), self._news_of(job_id)
            for row in await self._parts.journal.events(job_id, after):
                after = row.seq
                yield story.event_view(row)
            if ended:
                return
            progress = self._progress.get(job_id)
            if progress is not None and progress is not shown:
                shown = progress
                detail = {"fetched": progress.fetched, "total": progress.total}
                yield JobEventView(after, self._parts.clock.now_ms(), "progress", detail)
            await news.wait()

    async def logs(self, reference: str, offset: int, follow: bool) -> AsyncIterator[bytes]:  # noqa: FBT001
        job_id = self._find(reference).job_id
        path = self._parts.results.log_path(job_id)
        while True:
            ended = self._has_ended(job_id)
            chunk, size = await trio.to_thread.run_sync(_read_at, path, offset)
            if follow and size < offset:
                offset = 0  # Another attempt has begun, with a log of its own.
                continue
            offset += len(chunk)
            if chunk:
                yield chunk
            elif ended or not follow:
                return
            else:
                await trio.sleep(LOG_POLL_S)

    async def outputs(self, reference: str) -> tuple[OutputView, ...]:
        return tuple((await self._left_by(self._find(reference))).values())

    async def output(self, reference: str, path: str) -> tuple[OutputView, Path]:
        found = (await self._left_by(self._find(reference))).get(path)
        if found is None:
            raise NotFound(f"the job left no file {path!r}")
        place = self._parts.blobs.path(Digest(bytes.fromhex(found.digest)))
        if place is None:
            raise BlobUnavailable(f"the bytes of {path!r} are not here any more")
        return found, place

    # --- content --------------------------------------------------------------------------

    async def put_blob(self, chunks: AsyncIterator[bytes]) -> BlobView:
        # What is left there by a crash is removed at the next start.
        folder = self._parts.config.data_dir / "blobs" / "incoming"
        with (
            full_disk_as_storage_full(folder),
            tempfile.NamedTemporaryFile(dir=folder, suffix=".tmp") as file,
        ):
            async for chunk in chunks:
                await trio.to_thread.run_sync(file.write, chunk)
            file.flush()
            ref = await self._parts.blobs.put_file(Path(file.name), "input")
        return BlobView(ref.digest.hex(), ref.size)

    async def import_image(self, path: Path) -> ImageView:
        return await self._image(await self._parts.images.import_path(path))

    async def build_base(self) -> ImageView:
        with full_disk_as_storage_full(self._parts.config.data_dir / "blobs"):
            return await self._image(await self._parts.images.build_base())

    async def images(self) -> tuple[ImageView, ...]:
        return tuple(
            ImageView(image.digest.hex(), image.names, image.size)
            for image in await self._parts.images.known()
        )

    async def resolve_image(self, reference: str) -> str:
        return self._parts.images.resolve(reference).hex()

    # --- what the driver tells ------------------------------------------------------------

    def opened(self, job: Job) -> None:
        """Take note that a job is open, in its first or a later attempt."""
        self._jobs[job.job_id] = job

    def reported(self, report: Report) -> None:
        """Take note that something happened to a job, and wake those who wait for it."""
        kind = story.kind_of(report.event)
        self._phases[report.job_id] = story.PHASES.get(kind, kind)
        self._wake(report.job_id)

    def progressed(self, progress: Progress) -> None:
        """Take note how far a provider's fetching is."""
        self._progress[progress.job_id] = progress
        self._wake(progress.job_id)

    def ended(self, job: Job) -> None:
        """Take note that a job has ended."""
        self._jobs[job.job_id] = job
        self._phases.pop(job.job_id, None)
        self._progress.pop(job.job_id, None)
        self._parts.blobs.unpin(_pins_of(job.job_id))
        self._wake(job.job_id)

    def settled(self, totals: Totals) -> None:
        """Take note of new sums."""
        self._totals = totals

    # --- details --------------------------------------------------------------------------

    def _wake(self, job_id: JobId) -> None:
        news = self._news.pop(job_id, None)
        if news is not None:
            news.set()

    def _news_of(self, job_id: JobId) -> trio.Event:
        """Return what is set at the next news of a job; of an ended one there are none."""
        if self._has_ended(job_id):
            return trio.Event()
        return self._news.setdefault(job_id, trio.Event())

    def _has_ended(self, job_id: JobId) -> bool:
        return self._jobs[job_id].ending is not Ending.OPEN

    def _find(self, reference: str) -> Job:
        wanted = reference.lower()
        found = [job for job_id, job in self._jobs.items() if job_id.hex().startswith(wanted)]
        if len(wanted) < PREFIX_MIN or not found:
            raise NotFound(f"no job {reference!r}; `mutirao jobs` lists them")
        if len(found) > 1:
            raise NotFound(f"{len(found)} jobs begin with {reference!r}; give more digits")
        return found[0]

    def _same_key(self, spec: JobSpec) -> Job | None:
        if not spec.key:
            return None
        for job in self._jobs.values():
            if job.spec.key == spec.key:
                workload = replace(spec.workload, image_bytes=job.spec.workload.image_bytes)
                if job.spec != replace(spec, workload=workload):
                    raise Conflict("this idempotency key belongs to a job with another content")
                return job
        return None

    async def _checked(self, spec: JobSpec) -> tuple[JobSpec, list[Digest]]:
        """Return the job with the size of its image, and what blobs it needs.

        Raises what Service.submit says if the job cannot be taken on.
        """
        wrong = faults(spec)
        if wrong:
            raise InvalidRequest("; ".join(wrong))
        if shutil.disk_usage(self._parts.config.data_dir).free < DISK_BYTES_MIN:
            raise StorageFull("the disk is full: free some space, then submit the job again")
        workload = spec.workload
        try:
            missing = await self._parts.images.missing(workload.image)
            parts = await self._parts.images.parts(workload.image)
        except BlobUnavailable:
            raise _no_image(workload.image) from None
        if missing:
            raise _no_image(workload.image)
        for file in workload.inputs:
            held = self._parts.blobs.ref(file.blob.digest)
            if held is None or held.size != file.blob.size:
                raise NotFound(f"input {file.path!r}: upload its bytes first (POST /v1/blobs)")
        size = sum(part.size for part in parts)
        needed = [ref.digest for ref in (*parts, *(file.blob for file in workload.inputs))]
        return replace(spec, workload=replace(workload, image_bytes=size)), needed

    async def _left_by(self, job: Job) -> dict[str, OutputView]:
        """Return a job's outputs by path; who fetches all asks for them once a file."""
        if job.job_id in self._outputs:
            return self._outputs[job.job_id]
        view = await self._view(job)
        if view.output_digest is None:
            raise Conflict(f"job {view.id[:12]} is {view.phase}: it has no outputs")
        found = await output_views(self._parts.blobs, Digest(bytes.fromhex(view.output_digest)))
        if self._has_ended(job.job_id):  # Until then they may still become others.
            self._outputs = dict([*self._outputs.items(), (job.job_id, found)][-OUTPUTS_KEPT_MAX:])
        return found

    async def _view(self, job: Job) -> JobView:
        return story.job_view(job, await self._parts.journal.events(job.job_id))

    async def _image(self, digest: Digest) -> ImageView:
        for image in await self._parts.images.known():
            if image.digest == digest:
                return ImageView(digest.hex(), image.names, image.size)
        raise _no_image(digest)

    def _counts(self) -> PhaseCounts:
        ended = Counter(
            job.ending.value for job in self._jobs.values() if job.ending is not Ending.OPEN
        )
        return PhaseCounts(**(ended + Counter(self._phases.values())))

    def _provider(self) -> ProviderView:
        status = self._parts.driver.core.status(self._parts.clock.now_ms())
        return ProviderView(
            enabled=status.policy.providing,
            paused=False,
            driver=self._parts.sandbox or None,
            why=self._parts.sandbox_why,
            total=resources_view(status.policy.capacity),
            free=resources_view(status.free),
            gpus=gpu_views(status.policy.capacity),
            bids_undelivered=self._parts.undelivered.bids,
        )


def _no_image(image: Digest) -> NotFound:
    return NotFound(
        f"image sha256:{image.hex()[:12]} is not here: "
        "`mutirao image import PATH` or `mutirao image build-base` puts one here"
    )


def _pins_of(job_id: JobId) -> str:
    return f"input {job_id.hex()}"


def _read_at(path: Path, offset: int) -> tuple[bytes, int]:
    """Return what stands in a file from an offset on, and the file's size."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(min(offset, size))
            return file.read(LOG_CHUNK), size
    except FileNotFoundError:  # Nothing was written yet.
        return b"", 0
