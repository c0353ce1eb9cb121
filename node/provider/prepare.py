"""Fetches image and inputs of an execution from its requester, and passes the image to the sandbox.

Spec: specs/execution.md#executions. A request to a busy or unreachable holder is retried a few
times; a job whose image is larger than declared is refused before its layers are fetched.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from node.data.checkpoints import fetch_checkpoint
from node.data.layers import Allowance
from node.data.transfer import Holding
from node.driver.driver import Inbox
from node.provider.execution_context import ExecutionContext, pins_of
from node.provider.registry_pull import pull_public
from node.sandbox.driver import SandboxDriver
from protocol.machines.effects import Prepare
from protocol.machines.inputs import FetchProgressed, PreparationMeasured
from protocol.values.errors import BlobUnavailable, InvalidRequest, SandboxUnavailable
from protocol.values.ids import Digest, LeaseId
from protocol.wire.job import Workload

MANIFEST_BYTES_MAX: Final = 4 * 1024 * 1024
ATTEMPTS: Final = 5
PAUSE_S: Final = 0.5
"""Before the second attempt; it doubles."""
UNPACKED_RATIO_MAX: Final = 4
"""The largest ratio of unpacked to packed size, the job's disk apart. Most images have 2 to 3."""
PROGRESS_BYTES: Final = 1024 * 1024
"""The step of progress reports to the core: 17 kB/s are enough to be seen alive."""


@dataclass(frozen=True, slots=True)
class HeldImage:
    """The image of a workload, with all parts stored here, as the sandbox takes it."""

    workload: Workload
    context: ExecutionContext

    @property
    def digest(self) -> Digest:
        """Return the digest of the image's manifest."""
        return self.workload.image

    async def unpack(self) -> Path:
        """Return the image's root, unpacked once; raises what `ImageCache.unpack` raises."""
        return await self.context.image_cache.unpack(self.digest, await self._unpacked_bytes_max())

    async def archive(self, path: Path) -> int:
        """Write the image to a new file for `docker load`; return its unpacked bytes.

        Raises what `Images.unpack` raises.
        """
        allowance = Allowance(await self._unpacked_bytes_max())
        return await self.context.images.docker_archive(self.digest, path, allowance)

    async def _unpacked_bytes_max(self) -> int:
        packed = sum(part.size for part in await self.context.images.parts(self.digest))
        return UNPACKED_RATIO_MAX * packed + self.workload.resources.disk_mib * 1024**2


async def prepare(context: ExecutionContext, effect: Prepare, inbox: Inbox) -> None:
    """Fetch image and inputs, with progress to the inbox; unpack them for the sandbox.

    All of this counts towards the time that a job has for preparing. How long it takes decides what
    this node promises in its next bids.

    Raises BlobUnavailable, InvalidRequest, SandboxUnavailable or StorageFull.
    """
    before = context.meter.preparation
    context.pin_inputs(effect.lease_id, effect.workload)
    for attempt in range(ATTEMPTS):
        try:
            await _fetch_all(context, effect, inbox)
            break
        except BlobUnavailable:
            if attempt == ATTEMPTS - 1:
                raise
        await trio.sleep(PAUSE_S * 2**attempt)
    await _give_image(context, effect.workload)
    await input_files(context, effect.workload)
    after = context.meter.preparation
    if after != before:
        inbox.give(PreparationMeasured(after))


async def _give_image(context: ExecutionContext, workload: Workload) -> None:
    """Pass the image to the sandbox, and measure how long it takes with a new one."""
    meter, begin = context.meter, trio.current_time()
    is_new = not meter.has(workload.image)
    await sandbox_of(context).prepare(HeldImage(workload, context))
    if is_new:
        meter.note_unpacked(workload.image_bytes, trio.current_time() - begin)
    meter.note_image(workload.image)


async def input_files(
    context: ExecutionContext, workload: Workload
) -> tuple[tuple[str, Path], ...]:
    """Return path and content of each input: a file, or the folder of a pack, which is unpacked.

    BlobUnavailable if one is not stored here; errors as of `ImageCache.unpack_pack`.
    """
    found = []
    for file in workload.inputs:
        path = context.blobs.path(file.blob.digest)
        if path is None:
            raise BlobUnavailable(f"input {file.path} is no longer stored here")
        if file.pack:
            path = await context.image_cache.unpack_pack(file.blob.digest)
        elif file.executable:  # All jobs with this blob see the mode.
            path.chmod(path.stat().st_mode | 0o111)
        found.append((file.path, path))
    return tuple(found)


def sandbox_of(context: ExecutionContext) -> SandboxDriver:
    """Return the sandbox of this node; SandboxUnavailable if it no longer has one."""
    if context.sandbox is None:
        raise SandboxUnavailable("this node has no sandbox")
    return context.sandbox


async def _fetch_all(context: ExecutionContext, effect: Prepare, inbox: Inbox) -> None:
    workload, holder, owner = effect.workload, effect.requester, pins_of(effect.lease_id)
    progress = _Progress(effect.lease_id, workload, inbox)
    await pull_public(context, workload, owner, progress.note)
    await context.fetcher.fetch(workload.image, [holder], "image", MANIFEST_BYTES_MAX)
    parts = await context.images.parts(workload.image)
    size = sum(part.size for part in parts)
    if size > workload.image_bytes:
        raise InvalidRequest(f"the image has {size} bytes; the job declares {workload.image_bytes}")
    context.pin_inputs(effect.lease_id, workload, *(part.digest for part in parts))
    for kind, refs in (("image", parts), ("input", [file.blob for file in workload.inputs])):
        missing = sum(ref.size for ref in refs if context.blobs.path(ref.digest) is None)
        begin = trio.current_time()
        await context.fetcher.fetch_all(refs, Holding(holder, kind, owner), progress.note)
        context.meter.note_fetched(missing, trio.current_time() - begin)
        progress.finish(sum(ref.size for ref in refs))
    for checkpoint in workload.resume:
        await fetch_checkpoint(
            context.fetcher, context.blobs, checkpoint, workload, Holding(holder, "input", owner)
        )
    await progress.tell_all()


class _Progress:
    """Reports the progress of the fetch to the core, in steps."""

    def __init__(self, lease_id: LeaseId, workload: Workload, inbox: Inbox) -> None:
        self._lease_id, self._inbox = lease_id, inbox
        size = workload.image_bytes + sum(file.blob.size for file in workload.inputs)
        self._total = max(size, 1)
        self._finished = 0
        self._told = 0

    def note(self, done: int) -> None:
        if self._finished + done >= self._told + PROGRESS_BYTES:
            self._told = self._finished + done
            # A job may declare too small a size: the total is reported only at the end.
            told = min(self._told, self._total - 1)
            self._inbox.give(FetchProgressed(self._lease_id, told, self._total))

    def finish(self, size: int) -> None:
        self._finished += size

    async def tell_all(self) -> None:
        """Report that the fetch is complete: the rest is this node's own work."""
        await self._inbox.take(FetchProgressed(self._lease_id, self._total, self._total))
