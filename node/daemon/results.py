"""The requester's hands: log and outputs of its jobs come home.

Spec: specs/execution.md#results. The log is followed while the job runs, and replaced by the
verified whole when it has ended.
"""

import logging
import os
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from node.daemon.listing import LISTING_BYTES_MAX, pin_listing, read_listing
from node.daemon.logs import PROTOCOL, follow_log
from node.data.blobs import Blobs
from node.data.transfer import BlobFetcher
from node.network.streams import ByteStream
from protocol.machines import effects, inputs
from protocol.values.errors import BlobUnavailable, PeerFault, StorageFull
from protocol.values.ids import JobId, PeerId
from protocol.values.units import GIB
from protocol.wire.job import BlobRef, Workload

LOG: Final = logging.getLogger(__name__)
FETCH_ATTEMPTS: Final = 8
FETCH_PAUSE_S: Final = 0.5

OpenStream = Callable[[PeerId, str], Awaitable[ByteStream]]


class Results:
    """Logs and outputs of our own jobs. `folder` has one subfolder a job."""

    def __init__(
        self,
        folder: Path,
        blobs: Blobs,
        fetcher: BlobFetcher,
        open_stream: OpenStream,
        give: Callable[[inputs.Input], object],
    ) -> None:
        self._folder = folder
        self._blobs = blobs
        self._fetcher = fetcher
        self._open_stream = open_stream
        self._give = give
        self._following: dict[JobId, trio.CancelScope] = {}
        self._nursery: trio.Nursery | None = None

    async def run(self, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Hold the nursery of all transfers, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            await trio.sleep_forever()

    def log_path(self, job_id: JobId) -> Path:
        """Return where a job's log is, once it has one."""
        return self._folder / job_id.hex() / "log"

    def perform(self, effect: effects.Effect, workload: Workload | None) -> None:
        """Begin to follow a log or to fetch outputs; the job's workload bounds their size."""
        assert self._nursery is not None
        match effect:
            case effects.FollowLog():
                self._nursery.start_soon(self._follow, effect)
            case effects.FetchOutputs() if workload is not None:
                self._nursery.start_soon(self._fetch, effect, workload)

    async def _follow(self, effect: effects.FollowLog) -> None:
        path = self.log_path(effect.job_id)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_bytes(b"")  # What an earlier attempt wrote is not this one's.
        with trio.CancelScope() as scope:
            self._following[effect.job_id] = scope
            opener = partial(self._open_stream, effect.provider, PROTOCOL)
            await follow_log(opener, effect.lease_id, path)
        if self._following.get(effect.job_id) is scope:
            del self._following[effect.job_id]

    async def _fetch(self, effect: effects.FetchOutputs, workload: Workload) -> None:
        for attempt in range(FETCH_ATTEMPTS):
            try:
                await self._fetch_once(effect, workload)
            except (BlobUnavailable, StorageFull, PeerFault) as error:
                LOG.warning("outputs of job %s: %s", effect.job_id.hex()[:12], error)
                why = str(error)
                await trio.sleep(FETCH_PAUSE_S * 2**attempt)
            else:
                self._give(inputs.OutputsFetched(effect.lease_id))
                return
        self._give(inputs.OutputsLost(effect.lease_id, f"the outputs cannot be fetched: {why}"))

    async def _fetch_once(self, effect: effects.FetchOutputs, workload: Workload) -> None:
        owner, holders = f"job {effect.job_id.hex()}", [effect.provider]
        digest = effect.outputs.digest
        self._blobs.pin(owner, digest)
        await self._fetcher.fetch(digest, holders, "output", LISTING_BYTES_MAX)
        outputs = await read_listing(self._blobs, digest)
        claimed = sum(file.blob.size for file in outputs.files)
        if claimed > workload.output_mib * GIB * GIB:
            raise BlobUnavailable(f"the provider claims {claimed} bytes of outputs, over the limit")
        await pin_listing(self._blobs, owner, digest)
        for ref, kind in [(outputs.log, "log"), *((file.blob, "output") for file in outputs.files)]:
            await self._fetcher.fetch(ref.digest, holders, kind, ref.size)
        self._finish_log(effect.job_id, outputs.log)

    def _finish_log(self, job_id: JobId, log: BlobRef) -> None:
        """Put the verified log in the place of what was followed; readers see no gap."""
        scope = self._following.pop(job_id, None)
        if scope is not None:
            scope.cancel()
        whole, path = self._blobs.path(log.digest), self.log_path(job_id)
        assert whole is not None
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        link = path.with_suffix(".whole")
        link.unlink(missing_ok=True)
        os.link(whole, link)
        link.replace(path)
