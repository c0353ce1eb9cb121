"""Fetches the logs and outputs of our own jobs from their providers.

Spec: specs/execution.md#results. The log is followed while the job runs, and replaced by the
complete, verified log when it has ended.
"""

import logging
import os
import shutil
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from node.data.blobs import Blobs
from node.data.bundle import bundle_fault
from node.data.checkpoints import fetch_checkpoint
from node.data.disk import full_disk_as_storage_full
from node.data.log_protocol import PROTOCOL, LogStream
from node.data.output_manifest import (
    LISTING_BYTES_MAX,
    ListedOutput,
    blobs_of,
    fault_of,
    listed_outputs,
    log_bytes_max,
    pin_listing,
    read_listing,
)
from node.data.transfer import BlobFetcher, Holding
from node.driver.background import Activity, Background
from node.driver.driver import Inbox
from node.requester.log_follower import follow_log
from protocol.machines import effects, inputs
from protocol.values.errors import (
    BlobUnavailable,
    InvalidRequest,
    PeerFault,
    RuleBroken,
    StorageFull,
)
from protocol.values.ids import Digest, JobId, LeaseId, PeerId
from protocol.wire.job import BlobRef, Outputs

LOG: Final = logging.getLogger(__name__)
FETCH_ATTEMPTS: Final = 8
CHECKPOINT_ATTEMPTS: Final = 3
"""After these the provider takes another checkpoint."""
FETCH_PAUSE_S: Final = 0.5
UNREAD_S: Final = 1.0
"""How long a job runs before its log is followed though nobody reads it: most jobs of a sweep have
ended by then, and a stream for each would cost more than the rest of their results."""
"""Before the second attempt; it doubles."""

OpenStream = Callable[[PeerId, str], Awaitable[LogStream]]


class Results:
    """Logs and outputs of our own jobs. `folder` has one subfolder per job."""

    def __init__(
        self,
        folder: Path,
        blobs: Blobs,
        fetcher: BlobFetcher,
        open_stream: OpenStream,
        inbox: Inbox,
    ) -> None:
        self._folder = folder
        self._blobs = blobs
        self._fetcher = fetcher
        self._open_stream = open_stream
        self._inbox = inbox
        self._following: dict[LeaseId, Activity] = {}
        self._fetching: dict[LeaseId, Activity] = {}
        self._fetching_checkpoints: dict[LeaseId, Activity] = {}
        self._checkpoints: dict[LeaseId, Outputs] = {}
        """What the checkpoint lists that was fetched last for a lease, until it is kept."""
        self._background = Background()
        self._readers: Counter[JobId] = Counter()
        self._reader_came = trio.Event()

    async def run(self, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Run all transfers, until cancelled."""
        await self._background.run(task_status)

    def log_path(self, job_id: JobId) -> Path:
        """Return the path of a job's log, which may not exist yet."""
        return self._folder / job_id.hex() / "log"

    async def outputs(self, listing: Digest) -> dict[str, ListedOutput]:
        """Return the outputs of a listing by path; BlobUnavailable if it is missing or invalid."""
        return await listed_outputs(self._blobs, listing)

    def blob_path(self, blob: Digest) -> Path | None:
        """Return the path of a blob with outputs; None if it is no longer stored."""
        return self._blobs.path(blob)

    @contextmanager
    def reading(self, job_id: JobId) -> Iterator[None]:
        """Follow a job's log from its start while somebody reads it."""
        self._readers[job_id] += 1
        self._reader_came.set()
        self._reader_came = trio.Event()
        try:
            yield
        finally:
            self._readers[job_id] -= 1
            self._readers = +self._readers  # Removes entries of 0.

    def follow_log(self, effect: effects.FollowLog) -> None:
        """Begin to follow a log; the job's workload bounds its size."""
        self._start(self._following, effect.lease_id, partial(self._follow, effect))

    def fetch_outputs(self, effect: effects.FetchOutputs) -> None:
        """Begin to fetch outputs; the job's workload bounds their size."""
        self._start(self._fetching, effect.lease_id, partial(self._fetch, effect))

    def fetch_checkpoint(self, effect: effects.FetchCheckpoint) -> None:
        """Begin to fetch a checkpoint, in place of an older one of the lease."""
        self._stop(self._fetching_checkpoints, effect.lease_id)
        action = partial(self._fetch_checkpoint, effect)
        self._start(self._fetching_checkpoints, effect.lease_id, action)

    def keep_checkpoint(self, effect: effects.KeepCheckpoint) -> None:
        """Keep the fetched checkpoint of a job, and no older one."""
        owner, listing = resume_pins_of(effect.job_id), effect.checkpoint.listing.digest
        self._blobs.unpin(owner)
        pin_listing(self._blobs, owner, listing, self._checkpoints.pop(effect.lease_id))
        self._blobs.unpin(_pins_of_fetch(effect.lease_id))

    def drop_checkpoint(self, job_id: JobId) -> None:
        """Unpin the checkpoint of a job that has ended."""
        self._blobs.unpin(resume_pins_of(job_id))

    def forget(self, lease_id: LeaseId) -> None:
        """Stop the transfers of a lease that has ended, and unpin its outputs."""
        for running in (self._following, self._fetching, self._fetching_checkpoints):
            self._stop(running, lease_id)
        self._checkpoints.pop(lease_id, None)
        self._blobs.unpin(_pins_of(lease_id))
        self._blobs.unpin(_pins_of_fetch(lease_id))

    def _stop(self, running: dict[LeaseId, Activity], lease_id: LeaseId) -> None:
        activity = running.pop(lease_id, None)
        if activity is not None:
            activity.stop()

    def _start(
        self,
        running: dict[LeaseId, Activity],
        lease_id: LeaseId,
        action: Callable[[], Awaitable[object]],
    ) -> None:
        activity = Activity()
        if self._background.begin(partial(activity.run, action)):
            running[lease_id] = activity

    async def _follow(self, effect: effects.FollowLog) -> None:
        path, lease_id = self.log_path(effect.job_id), effect.lease_id
        opener = partial(self._open_stream, effect.provider, PROTOCOL)
        with trio.move_on_after(UNREAD_S):
            while effect.job_id not in self._readers:
                await self._reader_came.wait()
        try:
            await trio.to_thread.run_sync(_begin_log, path, lease_id)
            await follow_log(opener, lease_id, path, log_bytes_max(effect.workload))
        except StorageFull as error:  # The job continues, and so does its log at the provider.
            LOG.warning("cannot follow the log of job %s: %s", effect.job_id.hex()[:12], error)

    async def _fetch_checkpoint(self, effect: effects.FetchCheckpoint) -> None:
        lease_id, checkpoint = effect.lease_id, effect.checkpoint
        holding = Holding(effect.provider, "output", _pins_of_fetch(lease_id))
        for attempt in range(CHECKPOINT_ATTEMPTS):
            try:
                self._checkpoints[lease_id] = await fetch_checkpoint(
                    self._fetcher, self._blobs, checkpoint.listing, effect.workload, holding
                )
            except (BlobUnavailable, InvalidRequest, StorageFull) as error:
                LOG.warning("checkpoint of job %s: %s", effect.job_id.hex()[:12], error)
                await trio.sleep(FETCH_PAUSE_S * 2**attempt)
            else:
                await self._inbox.take(inputs.CheckpointFetched(lease_id, checkpoint.sequence))
                return
        self._blobs.unpin(holding.owner)
        await self._inbox.take(inputs.CheckpointLost(lease_id, checkpoint.sequence))

    async def _fetch(self, effect: effects.FetchOutputs) -> None:
        lease_id = effect.lease_id
        why = await self._fetch_patiently(effect)
        if why:
            lost = inputs.OutputsLost(lease_id, f"the outputs cannot be fetched: {why}")
            await self._inbox.take(lost)
        else:
            await self._inbox.take(inputs.OutputsFetched(lease_id))

    async def _fetch_patiently(self, effect: effects.FetchOutputs) -> str:
        """Fetch log and outputs, with retries; return "" or why they are unavailable."""
        why = ""
        for attempt in range(FETCH_ATTEMPTS):
            try:
                await self._fetch_once(effect)
            except PeerFault as fault:  # A retry would fail in the same way.
                LOG.warning("outputs of job %s: %s", effect.job_id.hex()[:12], fault)
                return fault.why
            except (BlobUnavailable, StorageFull) as error:
                LOG.warning("outputs of job %s: %s", effect.job_id.hex()[:12], error)
                why = str(error)
            else:
                return ""
            if attempt < FETCH_ATTEMPTS - 1:
                await trio.sleep(FETCH_PAUSE_S * 2**attempt)
        return why

    async def _fetch_once(self, effect: effects.FetchOutputs) -> None:
        owner, holders = _pins_of(effect.lease_id), [effect.provider]
        digest = effect.outputs.digest
        self._blobs.pin(owner, digest)
        await self._fetcher.fetch(digest, holders, "output", LISTING_BYTES_MAX)
        outputs = await read_listing(self._blobs, digest)
        fault = fault_of(outputs, effect.workload)
        if fault:
            raise RuleBroken(effect.provider, fault)
        pin_listing(self._blobs, owner, digest, outputs)
        for kind, refs in (("log", [outputs.log]), ("output", blobs_of(outputs))):
            await self._fetcher.fetch_all(refs, Holding(effect.provider, kind, owner))
        for bundle in outputs.bundle:
            await self._check_bundle(effect.provider, outputs, bundle.digest)
        await self._finish_log(effect, outputs.log)

    async def _check_bundle(self, provider: PeerId, outputs: Outputs, bundle: Digest) -> None:
        path = self._blobs.path(bundle)
        if path is None:
            raise BlobUnavailable("the fetched bundle is missing on our own disk")
        if fault := await trio.to_thread.run_sync(bundle_fault, outputs, path):
            raise RuleBroken(provider, fault)

    async def _finish_log(self, effect: effects.FetchOutputs, log: BlobRef) -> None:
        """Replace the followed log by the verified one; readers see no gap."""
        following = self._following.pop(effect.lease_id, None)
        if following is not None:
            following.stop()
            await following.wait_over()  # The log becomes a hard link to a blob: no more writes.
        whole = self._blobs.path(log.digest)
        if whole is None:
            raise BlobUnavailable("the fetched log is missing on our own disk")
        await trio.to_thread.run_sync(_end_log, whole, self.log_path(effect.job_id))


def resume_pins_of(job_id: JobId) -> str:
    """Return the owner of the pins of the checkpoint that a job continues from."""
    return f"checkpoint {job_id.hex()}"


def _pins_of(lease_id: LeaseId) -> str:
    return f"outputs {lease_id.hex()}"


def _pins_of_fetch(lease_id: LeaseId) -> str:
    return f"fetched checkpoint {lease_id.hex()}"


def _begin_log(path: Path, lease_id: LeaseId) -> None:
    """Remove the log of another lease; keep what we have of this one."""
    mark = path.with_suffix(".lease")
    with full_disk_as_storage_full(path.parent):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not mark.exists() or mark.read_bytes() != lease_id:
            path.unlink(missing_ok=True)  # Never truncated: it may be a hard link to a blob.
            mark.write_bytes(lease_id)


def _end_log(whole: Path, path: Path) -> None:
    draft = path.with_suffix(".whole")
    with full_disk_as_storage_full(path.parent):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.with_suffix(".lease").unlink(missing_ok=True)  # The log is complete.
        draft.unlink(missing_ok=True)
        try:
            os.link(whole, draft)
        except FileNotFoundError:
            raise BlobUnavailable("the fetched log is missing on our own disk") from None
        except OSError:  # The blobs are on another disk, or the file system has no hard links.
            shutil.copyfile(whole, draft)
        draft.replace(path)
