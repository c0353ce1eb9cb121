"""The provider's hands: fetch what an execution needs, run its container, keep what it leaves.

Spec: specs/execution.md#executions. Every lease has one run folder and at most one task at a
time; what comes of it goes back to the core as an input.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from node.daemon.listing import pin_listing
from node.data.blobs import Blobs
from node.data.images import Images
from node.data.transfer import BlobFetcher
from node.sandbox.driver import Driver as SandboxDriver
from node.sandbox.driver import Exit, log_path, outputs_path
from node.sandbox.driver import Launch as ContainerLaunch
from node.sandbox.policy import name_of
from protocol.machines import effects, inputs
from protocol.values.errors import (
    BlobUnavailable,
    InvalidRequest,
    PeerFault,
    SandboxUnavailable,
    StorageFull,
)
from protocol.values.ids import LeaseId, PeerId
from protocol.wire.codec import encode
from protocol.wire.job import BlobRef, FileRef, Outputs, Workload

LOG: Final = logging.getLogger(__name__)
MANIFEST_BYTES_MAX: Final = 4 * 1024 * 1024
NOT_TO_BE_HAD: Final = (
    BlobUnavailable, InvalidRequest, PeerFault, SandboxUnavailable, StorageFull,
)  # fmt: skip
"""Why image or inputs cannot be had: a bad image, a lying holder, a full disk."""
PROGRESS_BYTES: Final = 4 * 1024 * 1024
"""The core hears of the fetching in steps of this."""


@dataclass(frozen=True, slots=True)
class Workshop:
    """Where executions happen, and with what."""

    blobs: Blobs
    images: Images
    fetcher: BlobFetcher
    sandbox: SandboxDriver | None
    """None if no sandbox works here: then no lease is ever served."""
    runs: Path
    """Run folders, one a lease."""
    roots: Path
    """Unpacked images."""

    def run_folder(self, lease_id: LeaseId) -> Path:
        """Return where the execution of a lease lives."""
        return self.runs / lease_id.hex()[:32]


class Executions:
    """The executions of this node."""

    def __init__(self, workshop: Workshop, give: Callable[[inputs.Input], object]) -> None:
        self._shop = workshop
        self._give = give
        self._nursery: trio.Nursery | None = None
        self._scopes: dict[LeaseId, trio.CancelScope] = {}
        self._requesters: dict[LeaseId, PeerId] = {}
        self._dropping = 0
        self._dropped = trio.Event()

    async def run(self, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Hold the nursery of all executions, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            await trio.sleep_forever()

    def log_of(self, lease_id: LeaseId, requester: PeerId) -> tuple[Path, bool] | None:
        """Return where the log grows and whether it still may; None if it is not for this peer."""
        folder = self._folder(lease_id)
        if self._requesters.get(lease_id) != requester or not folder.exists():
            return None
        return log_path(folder), lease_id in self._scopes

    def perform(self, effect: effects.Effect) -> None:
        """Begin what the core asks for."""
        match effect:
            case effects.Prepare(lease_id, requester, workload):
                self._start(lease_id, partial(self._prepare, lease_id, requester, workload))
            case effects.Launch(lease_id, requester):
                self._requesters[lease_id] = requester
                self._start(lease_id, partial(self._execute, effect))
            case effects.Extend(lease_id, budget_ms):
                self._soon(partial(self._extend, self._folder(lease_id), budget_ms))
            case effects.Kill(lease_id):
                self._soon(partial(self._sandbox.kill, self._folder(lease_id)))
            case effects.Drop(lease_id):
                self._soon(partial(self._drop, lease_id))

    def _folder(self, lease_id: LeaseId) -> Path:
        return self._shop.run_folder(lease_id)

    @property
    def _sandbox(self) -> SandboxDriver:
        assert self._shop.sandbox is not None
        return self._shop.sandbox

    def _soon(self, action: Callable[[], Awaitable[object]]) -> None:
        assert self._nursery is not None
        self._nursery.start_soon(action)

    def _start(self, lease_id: LeaseId, action: Callable[[], Awaitable[object]]) -> None:
        self._soon(partial(self._scoped, lease_id, action))

    async def _scoped(self, lease_id: LeaseId, action: Callable[[], Awaitable[object]]) -> None:
        with trio.CancelScope() as scope:
            self._scopes[lease_id] = scope
            await action()
        if self._scopes.get(lease_id) is scope:
            del self._scopes[lease_id]

    async def _prepare(self, lease_id: LeaseId, requester: PeerId, workload: Workload) -> None:
        shop, owner = self._shop, f"lease {lease_id.hex()}"
        inputs_ = [file.blob for file in workload.inputs]
        shop.blobs.pin(owner, workload.image, *(blob.digest for blob in inputs_))
        total = workload.image_bytes + sum(blob.size for blob in inputs_)
        progress = _Progress(lease_id, total, self._give)
        try:
            await shop.fetcher.fetch(workload.image, [requester], "image", MANIFEST_BYTES_MAX)
            for part in await shop.images.missing(workload.image):
                shop.blobs.pin(owner, part.digest)
                await self._fetch(part, requester, "image", progress)
            for blob in inputs_:
                await self._fetch(blob, requester, "input", progress)
            await shop.images.unpack(workload.image, shop.roots)
        except NOT_TO_BE_HAD as error:
            LOG.warning("cannot prepare lease %s: %s", lease_id.hex()[:12], error)
            self._give(inputs.PrepareFailed(lease_id, str(error)))
        else:
            self._give(inputs.Prepared(lease_id))

    async def _fetch(self, blob: BlobRef, holder: PeerId, kind: str, progress: "_Progress") -> None:
        await self._shop.fetcher.fetch(blob.digest, [holder], kind, blob.size, progress.note)
        progress.finish(blob.size)

    async def _execute(self, effect: effects.Launch) -> None:
        lease_id = effect.lease_id
        folder = self._folder(lease_id)
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            await self._sandbox.start(await self._launch(effect), folder)
            self._give(inputs.ContainerStarted(lease_id))
            ended = await self._sandbox.wait(folder)
            if ended.reason == "failed":
                raise SandboxUnavailable(ended.detail)
            outputs = await self._collect(folder)
        except NOT_TO_BE_HAD as error:
            LOG.warning("the execution of lease %s failed: %s", lease_id.hex()[:12], error)
            self._give(inputs.ContainerFailed(lease_id, str(error)))
            return
        await pin_listing(self._shop.blobs, f"lease {lease_id.hex()}", outputs.digest)
        self._give(_exited(lease_id, ended, outputs))

    async def _launch(self, effect: effects.Launch) -> ContainerLaunch:
        shop, workload = self._shop, effect.workload
        config = await shop.images.config(workload.image)
        rootfs = await shop.images.unpack(workload.image, shop.roots)
        files = []
        for file in workload.inputs:
            path = shop.blobs.path(file.blob.digest)
            if path is None:
                raise BlobUnavailable(f"input {file.path} is not here any more")
            files.append((file.path, path))
        return ContainerLaunch(
            name=name_of(effect.lease_id),
            workload=workload,
            rootfs=rootfs,
            image_archive=partial(shop.images.docker_archive, workload.image),
            env=config.env,
            working_dir=config.working_dir,
            inputs=tuple(files),
            gpus=effect.reservation.devices,
            budget_ms=effect.budget_ms,
        )

    async def _collect(self, folder: Path) -> BlobRef:
        """Keep log and outputs as blobs; return the blob that lists them."""
        blobs, root = self._shop.blobs, outputs_path(folder)
        log = await blobs.put_file(log_path(folder), "log")
        files = []
        for path in sorted(path for path in root.rglob("*") if path.is_file()):
            ref = await blobs.put_file(path, "output")
            name = path.relative_to(root).as_posix()
            files.append(FileRef(name, BlobRef(ref.digest, ref.size)))
        listing = Outputs(tuple(files), BlobRef(log.digest, log.size))
        kept = await blobs.put_bytes(encode(listing), "output")
        return BlobRef(kept.digest, kept.size)

    async def _extend(self, folder: Path, budget_ms: int) -> None:
        if await trio.Path(folder).exists():
            await self._sandbox.extend(folder, budget_ms)

    async def wait_dropped(self) -> None:
        """Wait until everything that was to be removed is removed."""
        while self._dropping:
            await self._dropped.wait()

    async def _drop(self, lease_id: LeaseId) -> None:
        self._dropping += 1
        try:
            await self._remove(lease_id)
        finally:
            self._dropping -= 1
            self._dropped.set()
            self._dropped = trio.Event()

    async def _remove(self, lease_id: LeaseId) -> None:
        scope = self._scopes.pop(lease_id, None)
        if scope is not None:
            scope.cancel()
        self._requesters.pop(lease_id, None)
        self._shop.blobs.unpin(f"lease {lease_id.hex()}")
        folder = self._folder(lease_id)
        if await trio.Path(folder).exists():
            with trio.CancelScope(shield=True):  # A stopping node leaves no container behind.
                await self._sandbox.remove(folder)


class _Progress:
    """Tells the core how far the fetching is, in steps."""

    def __init__(
        self, lease_id: LeaseId, total: int, give: Callable[[inputs.Input], object]
    ) -> None:
        self._lease_id, self._total, self._give = lease_id, total, give
        self._finished = 0
        self._told = 0

    def note(self, done: int, _size: int) -> None:
        if self._finished + done >= self._told + PROGRESS_BYTES:
            self._told = self._finished + done
            self._give(inputs.FetchProgressed(self._lease_id, self._told, self._total))

    def finish(self, size: int) -> None:
        self._finished += size


def _exited(lease_id: LeaseId, ended: Exit, outputs: BlobRef) -> inputs.ContainerExited:
    code = ended.exit_code % 256
    return inputs.ContainerExited(
        lease_id, code, ended.reason, ended.detail, ended.usage_ms, outputs
    )
