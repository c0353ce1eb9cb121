"""The common part of all sandbox drivers: each container has a run folder and a runner process.

A driver adds how it stores an image, how it prepares a container for its start, and what it removes
besides the folder; runner/ has the module that starts its containers.

Spec: specs/sandbox.md#drivers.
"""

import hashlib
import os
import socket
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path

import trio

from node.sandbox import checkpoints, runfolder
from node.sandbox.bwrap import Extra
from node.sandbox.driver import ContainerSpec, Exit, ImageSource, Probe
from node.sandbox.policy import UID_INSIDE, Pairs, launch_record, require_runnable
from node.sandbox.runner import records
from node.sandbox.runners import Runners
from protocol.values.errors import SandboxUnavailable
from protocol.values.isolation import Isolation


class RunnerDriver(ABC):
    """A sandbox driver whose containers are started and watched by runner processes."""

    name: str
    runner: str
    """The module of runner/ that starts this driver's containers."""
    isolation = Isolation.CONTAINER.value
    user_inside = UID_INSIDE
    """A job's user id in its container."""
    guards_init = True
    """Whether a job cannot reach the memory of process 1 of its container."""

    def __init__(self, runs: Path) -> None:
        """Take the folder that holds the run folders; it identifies our containers."""
        self.runs = runs
        self.owner = hashlib.sha256(os.fsencode(runs.absolute())).hexdigest()[:12]
        self.runners = Runners(self.runner)

    # --- what a driver adds ---------------------------------------------------------------

    @abstractmethod
    async def require(self) -> None:
        """Raise SandboxUnavailable if this machine lacks the programs that the driver needs."""

    @abstractmethod
    async def check(self) -> Probe:
        """Start real containers and report what held, by selftest.check."""

    @abstractmethod
    async def check_egress(self) -> str:
        """Start a real container that connects to the proxy, by selftest.check_egress."""

    @abstractmethod
    def soft_limits(self) -> frozenset[str]:
        """Return the limits that only the runner enforces, by watching."""

    @abstractmethod
    async def selftest_image(self, rootfs: Path) -> str:
        """Return what ContainerSpec.image takes for an image with the empty folders of `rootfs`."""

    @abstractmethod
    async def forget_selftest_image(self) -> None:
        """Remove what `selftest_image` made beyond the folder."""

    @abstractmethod
    async def _take_image(self, image: ImageSource) -> str:
        """Prepare an image as `SandboxDriver.prepare` describes."""

    @abstractmethod
    async def _make(self, spec: ContainerSpec, folder: Path, extra: Extra) -> Pairs:
        """Create the container without starting it; return its fields of the launch record."""

    @abstractmethod
    async def _discard(self, folder: Path) -> None:
        """End the folder's container, and remove what the driver keeps outside the folder."""

    @abstractmethod
    async def _reap(self, names: frozenset[str]) -> None:
        """Remove all of our containers that are not named here."""

    # --- what is the same for all ---------------------------------------------------------

    async def prepare(self, image: ImageSource) -> str:
        found = await self._take_image(image)
        await self.runners.make_ready()
        return found

    async def take_over(self, folder: Path) -> bool:
        if runfolder.is_known(folder):  # Asked once: its runner may die at any time.
            await self.runners.run(folder)
            return True
        if runfolder.name_in(folder):
            raise SandboxUnavailable("the container was lost when its machine went down")
        return False

    async def start(self, spec: ContainerSpec, folder: Path) -> None:
        await self.start_with(spec, folder, Extra())

    async def start_with(self, spec: ContainerSpec, folder: Path, extra: Extra) -> None:
        """Start with more than the image has: the self-test binds the machine's own programs."""
        if await self.take_over(folder):
            return
        require_runnable(spec)
        self._note(spec, folder, await self._make(spec, folder, extra))
        try:
            await self.runners.run(folder)
        except SandboxUnavailable:
            await self._discard(folder)
            raise

    async def wait(self, folder: Path) -> Exit:
        return await runfolder.wait(folder)

    def usage_ms(self, folder: Path) -> int:
        return runfolder.usage_ms(folder)

    async def proxy_listener(self, folder: Path) -> socket.socket:
        return await trio.to_thread.run_sync(runfolder.proxy_listener, folder)

    async def copy_checkpoint(self, folder: Path, path: str, mark: bytes) -> bytes:
        return await checkpoints.copy(folder, path, mark)

    async def terminate(self, folder: Path) -> None:
        await runfolder.terminate(folder)

    async def kill(self, folder: Path) -> None:
        await runfolder.kill(folder)

    async def extend(self, folder: Path, budget_ms: int) -> None:
        await runfolder.extend(folder, budget_ms)

    async def remove(self, folder: Path) -> None:
        await self.kill(folder)
        await self._discard(folder)
        await runfolder.remove_files(folder)

    async def reap(self, names: frozenset[str]) -> None:
        self.runners.end()
        await self._reap(names)

    def _note(self, spec: ContainerSpec, folder: Path, own: Pairs) -> None:
        """Write the launch record; from now on the container may have run."""
        if spec.budget_ms:
            runfolder.write_record(folder, records.BUDGET, [("ms", str(spec.budget_ms))])
        pairs = launch_record(spec, self.name) + own
        runfolder.write_record(folder, records.LAUNCH, pairs)


def let_read(paths: Iterable[Path], bits: int = 0o444) -> None:
    """Let a job's user read these files; the data folder around them keeps others out."""
    for path in paths:
        mode = path.stat().st_mode & 0o7777
        if mode & bits != bits:
            path.chmod(mode | bits)
