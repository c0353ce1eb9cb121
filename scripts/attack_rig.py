"""Containers for attacks: this machine's own Python in an empty root, as in the self-test.

Both scripts/probe.py and scripts/abuse.py run their jobs here, so that every driver meets the same.
Spec: specs/sandbox.md#probe.
"""

import os
import secrets
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import trio

from node.egress.egress import Egress
from node.sandbox.bwrap import Extra
from node.sandbox.choice import make_driver
from node.sandbox.driver import NAME_PREFIX, ContainerSpec, Exit, log_path, outputs_path
from node.sandbox.runner_driver import RunnerDriver
from node.sandbox.selftest import host_rootfs, python_command
from protocol.machines.effects import Launch
from protocol.rules.capacity import Reservation
from protocol.values.errors import SandboxUnavailable
from protocol.values.ids import Digest, LeaseId, PeerId
from protocol.wire.job import Resources, Workload

NO_RESERVATION: Final = Reservation(Resources())
UNPACKED_MIB: Final = 1024
INSIDE: Final = Path(__file__).parent
HOSTILE_ENV: Final = (("LD_PRELOAD", "/evil.so"), ("NVIDIA_VISIBLE_DEVICES", "all"))
"""What the image sets."""
DEATH_SECONDS: Final = 10.0
"""A process of a container that has ended may take so long to go."""


class NotHere(Exception):
    """A driver that this machine lacks; the text says why."""


@dataclass(frozen=True, slots=True)
class Ended:
    """What a job left."""

    exit: Exit
    log: str
    outputs: Path
    wall_ms: int


@dataclass(slots=True)
class Rig:
    """A driver with an image, and a folder whose name holds a secret word."""

    driver: RunnerDriver
    folder: Path
    secret: str
    image: str
    extra: Extra
    names: list[str] = field(default_factory=list)

    @property
    def conditions(self) -> frozenset[str]:
        """What the expectations depend on."""
        user = "root" if os.geteuid() == 0 else "user"
        soft = {f"soft {limit}" for limit in self.driver.soft_limits()}
        return frozenset({self.driver.name, user} | soft)

    async def run(
        self, code: str, scripts: Sequence[str], workload: Workload, *words: str,
        egress: Egress | None = None,
    ) -> Ended:  # fmt: skip
        """Run Python code that may import these scripts as a job; return what it left."""
        run_folder = self.folder / "runs" / f"run-{len(self.names)}"
        run_folder.mkdir(mode=0o700)
        path = "import sys; sys.path.insert(0, '/in'); "
        command = [word for word in python_command(path + code) if word != "-I"]
        inputs = [(f"scripts/{name}", self._copied(INSIDE / name)) for name in scripts]
        facts = self.folder / "facts.json"
        launch = ContainerSpec(
            name=NAME_PREFIX + secrets.token_hex(16),
            workload=replace(workload, command=(*command, *words)),
            image=self.image,
            env=HOSTILE_ENV,
            inputs=(*inputs, *([("facts.json", facts)] if facts.exists() else [])),
        )
        self.names.append(launch.name)
        begin = time.monotonic()
        await self.driver.start_with(launch, run_folder, self.extra)
        lease = Launch(LeaseId(bytes(32)), PeerId("nobody"), workload, NO_RESERVATION, 0, 0)
        serving = egress.serving(lease, self.driver, run_folder) if egress else nullcontext()
        async with serving:
            ended = await self.driver.wait(run_folder)
        wall_ms = round((time.monotonic() - begin) * 1000)
        log = log_path(run_folder).read_text(errors="replace")
        return Ended(ended, log, outputs_path(run_folder), wall_ms)

    def _copied(self, path: Path) -> Path:
        """Return a copy that the driver may open to others: the script itself stays as it is."""
        copy = self.folder / path.name
        shutil.copyfile(path, copy)
        return copy

    async def remove_runs(self) -> None:
        """Remove all containers."""
        for run_folder in sorted((self.folder / "runs").glob("run-*")):
            await self.driver.remove(run_folder)

    @property
    def daemons(self) -> str:
        """How the processes begin that a job leaves behind."""
        return f"sleep-{self.secret}"

    async def processes_left(self, name: str) -> str:
        """Name the processes that a job left under this name, once dying ones had time to go."""
        left: list[str] = []
        with trio.move_on_after(DEATH_SECONDS):
            while left := _commands_with(name):  # noqa: ASYNC110
                await trio.sleep(0.05)
        return " ".join(left) or "none"

    def groups_left(self) -> str:
        """Name the control groups that still bear a name of a container."""
        found = [
            folder for folder, _, _ in os.walk("/sys/fs/cgroup")
            if any(name in folder for name in self.names)
        ]  # fmt: skip
        return " ".join(found) or "none"


def workload_of(memory_mib: int, disk_mib: int, **fields: int) -> Workload:
    """Return a job's declaration, still without a command."""
    resources = Resources(cpus=1, memory_mib=memory_mib, disk_mib=disk_mib)
    return Workload(Digest(bytes(32)), ("none",), resources=resources, **fields)


@asynccontextmanager
async def rig(name: str) -> AsyncIterator[Rig]:
    """Prepare a driver; remove everything at the end. NotHere if the machine lacks it."""
    secret = f"secret{secrets.token_hex(6)}"
    folder = Path(tempfile.mkdtemp(prefix=f"mutirao-probe-{secret}-"))
    driver = make_driver(name, folder / "runs", UNPACKED_MIB)
    try:
        (folder / "runs").mkdir(mode=0o700)
        await _require(driver)
        rootfs, extra = host_rootfs(folder / "rootfs")
        try:
            yield Rig(driver, folder, secret, await driver.selftest_image(rootfs), extra)
        finally:
            with trio.CancelScope(shield=True):
                for run_folder in sorted((folder / "runs").glob("run-*")):
                    await driver.remove(run_folder)
                await driver.reap(frozenset())
                await driver.forget_selftest_image()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _require(driver: RunnerDriver) -> None:
    """Raise NotHere if the machine lacks what the driver needs."""
    try:
        await driver.require()
    except SandboxUnavailable as fault:
        raise NotHere(str(fault)) from fault


def _commands_with(words: str) -> list[str]:
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = place.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        found += [command.strip()] if words in command else []
    return found
