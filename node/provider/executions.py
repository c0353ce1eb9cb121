"""Runs jobs of others: fetches image and inputs, runs the container, stores its outputs.

Spec: specs/execution.md#executions. Every lease has one run folder and at most one task at a
time; its result goes back to the core as an input.
"""

import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from node.data.disk import full_disk_as_storage_full
from node.driver.background import Activity, Background
from node.driver.driver import Inbox
from node.provider.checkpoints import (
    checkpoint_pins_of,
    restored_files,
    take_checkpoint,
    take_last_checkpoint,
)
from node.provider.collect import collect
from node.provider.execution_context import ExecutionContext, pins_of
from node.provider.prepare import HeldImage, input_files, prepare, sandbox_of
from node.sandbox.driver import (
    ContainerSpec,
    Exit,
    SandboxDriver,
    discard_outputs,
    log_path,
    name_of,
)
from protocol.machines import effects, inputs
from protocol.values.errors import (
    BlobUnavailable,
    InvalidRequest,
    SandboxUnavailable,
    StorageFull,
)
from protocol.values.ids import LeaseId, PeerId
from protocol.values.reasons import Release
from protocol.wire.job import BlobRef, Workload

LOG: Final = logging.getLogger(__name__)
PREPARATION_ERRORS: Final = (BlobUnavailable, InvalidRequest, SandboxUnavailable, StorageFull)
"""Errors that end an execution: missing blobs, a bad image, a failed sandbox, a full disk."""
REFUSED_TOLD_MAX: Final = 3
"""The most refused outputs that the user is told by name."""
HOST_PATH: Final = re.compile(r"""(?<![\w.-])/+[^\s/:;,'"()]+/[^\s:;,'"()]*""")
"""An absolute path of at least two names; the job's own mount points are shorter."""


@dataclass(slots=True)
class _Known:
    """What we remember of a lease until it is dropped."""

    requester: PeerId | None = None
    """The peer that may read the log; None before the launch."""
    budget_ms: int = 0
    runs: bool = False
    killed: bool = False
    """Whether it is killed, or must be as soon as it runs."""
    leaving: Workload | None = None
    """What it runs if it was told to end: its last checkpoint is wanted."""
    taking: Activity | None = None
    """Takes its checkpoint at the moment."""
    devices: tuple[str, ...] = ()
    """The GPUs of its container; none once it has ended."""


class Executions:
    """The executions of this node."""

    def __init__(self, context: ExecutionContext, inbox: Inbox) -> None:
        self._context = context
        self._inbox = inbox
        self._background = Background()
        self._active: dict[LeaseId, Activity] = {}
        self._known: dict[LeaseId, _Known] = {}
        self._lost: Mapping[str, str] = {}
        """The GPUs that do not answer, by UUID, and why."""
        self._dropping = 0
        self._dropped = trio.Event()

    async def run(self, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Run all executions, until cancelled."""
        await self._background.run(task_status)

    # --- effects of the core: each begins here and continues in the background ------------

    def prepare(self, effect: effects.Prepare) -> None:
        """Fetch image and inputs of a lease."""
        self._know(effect.lease_id)
        self._context.pin_unpacked(effect.lease_id, effect.workload)
        self._start(effect.lease_id, partial(self._prepare, effect))

    def launch(self, effect: effects.Launch) -> None:
        """Start the container of a lease, or adopt the one that runs."""
        known = self._know(effect.lease_id)
        known.requester = effect.requester
        self._context.pin_unpacked(effect.lease_id, effect.workload)
        known.budget_ms = max(known.budget_ms, effect.budget_ms)
        known.devices = effect.reservation.devices
        self._start(effect.lease_id, partial(self._execute, effect))
        self.lose(self._lost)

    def extend(self, effect: effects.Extend) -> None:
        """Raise the budget of a lease's container."""
        # Budgets only grow, in whatever order the tasks write them.
        known = self._know(effect.lease_id)
        known.budget_ms = max(known.budget_ms, effect.budget_ms)
        self._background.begin(partial(self._extend, effect.lease_id))

    def take_checkpoint(self, effect: effects.TakeCheckpoint) -> None:
        """Take the checkpoint of a running job, unless that is under way."""
        known, activity = self._know(effect.lease_id), Activity()
        action = partial(activity.run, partial(self._take_checkpoint, effect))
        if known.taking is None and self._background.begin(action):
            known.taking = activity

    def terminate(self, effect: effects.Terminate) -> None:
        """Tell a job to end; its last checkpoint is taken then."""
        self._know(effect.lease_id).leaving = effect.workload
        self._background.begin(partial(self._terminate, effect.lease_id))

    def kill(self, effect: effects.Kill) -> None:
        """Stop the container of a lease."""
        lease_id = effect.lease_id
        self._know(lease_id).killed = True
        self._background.begin(partial(self._kill, lease_id))
        if lease_id not in self._active:  # An earlier run of the node started it.
            self._start(lease_id, partial(self._see_the_end, lease_id))

    def drop(self, effect: effects.Drop) -> None:
        """Discard everything of a lease's execution."""
        self._dropping += self._background.begin(partial(self._drop, effect.lease_id))

    def lose(self, devices: Mapping[str, str]) -> None:
        """End the executions on GPUs that do not answer, by UUID with the reason; all of them."""
        self._lost = devices
        for lease_id, known in self._known.items():
            gone = [uuid for uuid in known.devices if uuid in devices]
            if gone:
                known.devices = ()
                told = f"GPU {gone[0]} of this job vanished: {devices[gone[0]]}"
                failed = inputs.ContainerFailed(lease_id, told, Release.GPU_LOST)
                LOG.warning("the execution of lease %s failed: %s", lease_id.hex()[:12], told)
                self._background.begin(partial(self._inbox.take, failed))

    # --- queries --------------------------------------------------------------------------

    def log_of(self, lease_id: LeaseId) -> tuple[PeerId, Path, bool] | None:
        """Return a log's reader, its path and whether it may still grow; None if unknown."""
        known, folder = self._known.get(lease_id), self._folder(lease_id)
        if known is None or known.requester is None:
            return None
        return known.requester, log_path(folder), lease_id in self._active

    @property
    def dropping(self) -> int:
        """The number of executions that are being removed: a container may still run."""
        return self._dropping

    def holders(self) -> dict[str, tuple[LeaseId, PeerId | None]]:
        """Return the lease whose container has each GPU, by UUID, and its requester."""
        return {
            uuid: (lease_id, known.requester)
            for lease_id, known in self._known.items() for uuid in known.devices
        }  # fmt: skip

    async def wait_left(self) -> None:
        """Wait until no job is left that was told to end."""
        while any(known.leaving for known in self._known.values()):
            await self._dropped.wait()

    async def wait_dropped(self) -> None:
        """Wait until all dropped executions are removed."""
        while self._dropping:
            await self._dropped.wait()

    # --- the steps of an execution --------------------------------------------------------

    async def _prepare(self, effect: effects.Prepare) -> None:
        lease_id = effect.lease_id
        try:
            self._sandbox()  # Without a sandbox there is no need to fetch anything.
            self._context.egress.require(effect.workload)
            await prepare(self._context, effect, self._inbox)
        except PREPARATION_ERRORS as error:
            LOG.warning("cannot prepare lease %s: %s", lease_id.hex()[:12], error)
            await self._inbox.take(inputs.PrepareFailed(lease_id, self._told(error)))
            return
        await self._inbox.take(inputs.Prepared(lease_id))
        await self._context.image_cache.sweep()

    async def _execute(self, effect: effects.Launch) -> None:
        lease_id = effect.lease_id
        try:
            await self._begin(effect)
        except PREPARATION_ERRORS as error:
            await self._fail(lease_id, error)
            return
        used_ms = self._sandbox().usage_ms(self._folder(lease_id))
        await self._inbox.take(inputs.ContainerStarted(lease_id, used_ms))
        egress, folder = self._context.egress, self._folder(lease_id)
        async with egress.serving(effect, self._sandbox(), folder):
            await self._see_the_end(lease_id)

    async def _begin(self, effect: effects.Launch) -> None:
        """Start the container, or adopt the one that runs or ran."""
        known, folder = self._know(effect.lease_id), self._folder(effect.lease_id)
        sandbox = self._sandbox()
        with full_disk_as_storage_full(folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with trio.CancelScope(shield=True):
                runs_already = await sandbox.take_over(folder)
            if not runs_already:
                # Usually it is ready since `prepare`, but it may have been evicted.
                image = await sandbox.prepare(HeldImage(effect.workload, self._context))
                spec = await self._spec_of(effect, image)
                with trio.CancelScope(shield=True):  # Half-started containers are hard to find.
                    await sandbox.start(spec, folder)
            known.runs = True
            if known.killed:
                await sandbox.kill(folder)
            await sandbox.extend(folder, known.budget_ms)

    async def _see_the_end(self, lease_id: LeaseId) -> None:
        """Wait for the container's end, store its log and outputs, and tell the core."""
        folder, owner = self._folder(lease_id), pins_of(lease_id)
        try:
            ended = await self._sandbox().wait(folder)
            self._know(lease_id).devices = ()
            if ended.reason == "failed":
                raise SandboxUnavailable(ended.detail or "the sandbox failed")
            outputs = await collect(self._context.blobs, owner, folder)
        except PREPARATION_ERRORS as error:
            await self._fail(lease_id, error)
            return
        await self._take_last_checkpoint(lease_id, ended)
        await self._inbox.take(_exited(lease_id, ended, outputs))
        # They are stored as blobs: the second copy is not needed.
        await trio.to_thread.run_sync(discard_outputs, folder)

    async def _fail(self, lease_id: LeaseId, error: Exception) -> None:
        LOG.warning("the execution of lease %s failed: %s", lease_id.hex()[:12], error)
        await self._inbox.take(inputs.ContainerFailed(lease_id, self._told(error)))

    def _told(self, error: Exception) -> str:
        """Return a failure's text for the requester, without paths of this machine."""
        own = str(self._context.runs.parent)  # It may contain spaces, where HOST_PATH ends.
        return HOST_PATH.sub("(a path)", str(error).replace(own, "/data/folder"))

    async def _spec_of(self, effect: effects.Launch, image: str) -> ContainerSpec:
        context, workload = self._context, effect.workload
        config = await context.images.config(workload.image)
        return ContainerSpec(
            name=name_of(effect.lease_id),
            workload=workload,
            image=image,
            env=config.env,
            working_dir=config.working_dir,
            inputs=await input_files(context, workload),
            gpus=effect.reservation.devices,
            budget_ms=effect.budget_ms,
            cpu_weight=context.cpu_weight,
            pause_ms=effect.pause_ms,
            restored=await restored_files(context, workload),
        )

    async def _extend(self, lease_id: LeaseId) -> None:
        known = self._known.get(lease_id)
        if known is None or not known.runs:  # If it does not run yet, its start sets the budget.
            return
        try:
            with full_disk_as_storage_full(self._context.runs):
                await self._sandbox().extend(self._folder(lease_id), known.budget_ms)
            used_ms = self._sandbox().usage_ms(self._folder(lease_id))
            await self._inbox.take(inputs.ContainerExtended(lease_id, used_ms))
        except (SandboxUnavailable, StorageFull) as error:  # The old budget stays valid.
            LOG.warning("cannot extend lease %s: %s", lease_id.hex()[:12], error)

    async def _take_checkpoint(self, effect: effects.TakeCheckpoint) -> None:
        lease_id = effect.lease_id
        try:
            taken = await take_checkpoint(self._context, effect)
        except PREPARATION_ERRORS as error:  # The next interval tries again.
            LOG.warning("no checkpoint of lease %s: %s", lease_id.hex()[:12], error)
            taken = None
        if taken is not None:
            await self._inbox.take(taken)
        if lease_id in self._known:
            self._known[lease_id].taking = None

    async def _take_last_checkpoint(self, lease_id: LeaseId, ended: Exit) -> None:
        known = self._known.get(lease_id)
        if known is None or known.leaving is None:
            return
        if known.taking is not None:  # An older one must not be announced after the last.
            await known.taking.wait_over()
        last = partial(take_last_checkpoint, self._context, lease_id, known.leaving, ended.refused)
        try:
            taken = await last()
        except PREPARATION_ERRORS as error:
            LOG.warning("no last checkpoint of lease %s: %s", lease_id.hex()[:12], error)
            return
        if taken is not None:
            await self._inbox.take(taken)

    async def _terminate(self, lease_id: LeaseId) -> None:
        try:
            await self._sandbox().terminate(self._folder(lease_id))
        except SandboxUnavailable as error:  # The core's deadline ends the lease.
            LOG.warning("cannot tell the job of lease %s: %s", lease_id.hex()[:12], error)

    async def _kill(self, lease_id: LeaseId) -> None:
        try:
            await self._sandbox().kill(self._folder(lease_id))
        except SandboxUnavailable as error:  # The core's deadline ends the lease.
            LOG.warning("cannot stop the container of lease %s: %s", lease_id.hex()[:12], error)

    # --- the end of a lease ---------------------------------------------------------------

    async def _drop(self, lease_id: LeaseId) -> None:
        with trio.CancelScope(shield=True):  # A stopping node leaves no container behind.
            try:
                await self._remove(lease_id)
            except SandboxUnavailable as error:  # The next start of the node tries again.
                LOG.warning("cannot remove all of lease %s: %s", lease_id.hex()[:12], error)
        self._dropping -= 1
        self._dropped.set()
        self._dropped = trio.Event()

    async def _remove(self, lease_id: LeaseId) -> None:
        known = self._known.pop(lease_id, _Known())
        for activity in (known.taking, self._active.get(lease_id)):
            if activity is not None:
                activity.stop()
                await activity.wait_over()  # It must not write into a folder that is being removed.
        self._context.blobs.unpin(pins_of(lease_id))
        self._context.blobs.unpin(checkpoint_pins_of(lease_id))
        self._context.image_cache.unpin(lease_id)
        folder = self._folder(lease_id)
        if await trio.Path(folder).exists():
            await self._sandbox().remove(folder)

    # --- details --------------------------------------------------------------------------

    def _folder(self, lease_id: LeaseId) -> Path:
        return self._context.run_folder(lease_id)

    def _sandbox(self) -> SandboxDriver:
        return sandbox_of(self._context)

    def _know(self, lease_id: LeaseId) -> _Known:
        return self._known.setdefault(lease_id, _Known())

    def _start(self, lease_id: LeaseId, action: Callable[[], Awaitable[object]]) -> None:
        activity = self._active[lease_id] = Activity()
        self._background.begin(partial(self._do, lease_id, activity, action))

    async def _do(
        self, lease_id: LeaseId, activity: Activity, action: Callable[[], Awaitable[object]]
    ) -> None:
        await activity.run(action)
        if self._active.get(lease_id) is activity:
            del self._active[lease_id]


def _exited(lease_id: LeaseId, ended: Exit, outputs: BlobRef) -> inputs.ContainerExited:
    detail = ended.detail
    if ended.refused and not detail:
        detail = f"some of /out was not collected: {'; '.join(ended.refused[:REFUSED_TOLD_MAX])}"
    code = ended.exit_code % 256
    return inputs.ContainerExited(lease_id, code, ended.reason, detail, ended.usage_ms, outputs)
