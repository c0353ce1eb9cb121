"""Containers for tests: this machine's own programs in an empty root, as in the self-test.

Spec: specs/sandbox.md#self-test.
"""

# ruff: noqa: ASYNC240

import os
import secrets
import socket
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from node.sandbox.bwrap import Extra
from node.sandbox.docker_engine import engine_socket
from node.sandbox.driver import ContainerSpec, Exit, log_path
from node.sandbox.embedded import EmbeddedDriver
from node.sandbox.runner import cgroups
from node.sandbox.selftest import host_rootfs, python_command
from protocol.values.errors import SandboxUnavailable
from protocol.values.ids import Digest
from protocol.wire.job import Resources, Workload


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)


def answers() -> bool:
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(engine_socket())
    except (OSError, SandboxUnavailable):
        return False
    return True


needs_engine = pytest.mark.skipif(
    not answers(), reason=os.environ.get("MISSING_DOCKER", "no Docker Engine answers here")
)


NAP = f"60.{os.getpid()}"
"""Seconds that no other process of the machine sleeps."""


def running(command: str) -> int:
    """Return a process whose command line begins with this, 0 if there is none."""
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if place.read_text().startswith(command):
                return int(place.parent.name)
        except OSError:
            continue
    return 0


def workload(*command: str, **fields) -> Workload:
    resources = Resources(memory_mib=fields.pop("memory_mib", 64), disk_mib=16)
    small = {"timeout_ms": 20_000, "output_mib": 2, "log_mib": 1, "processes": 16}
    return Workload(Digest(bytes(32)), command, resources=resources, **(small | fields))


def launch_of(job: Workload, **fields) -> ContainerSpec:
    name = "mutirao-" + secrets.token_hex(16)
    return ContainerSpec(**({"name": name, "image": "some image", "workload": job} | fields))


@dataclass
class Room:
    """A driver with a rootfs, whose run folders lie below a folder that is ours alone."""

    driver: EmbeddedDriver
    rootfs: Path
    extra: Extra

    def folder(self) -> Path:
        folder = self.driver.runs / secrets.token_hex(8)
        folder.mkdir(parents=True, mode=0o700)
        return folder

    async def start(self, launch: ContainerSpec) -> Path:
        folder = self.folder()
        await self.driver.start_with(replace(launch, image=str(self.rootfs)), folder, self.extra)
        return folder

    async def run(self, launch: ContainerSpec) -> tuple[Exit, str, Path]:
        folder = await self.start(launch)
        end = await self.driver.wait(folder)
        return end, log_path(folder).read_text(errors="replace"), folder

    async def run_python(self, code: str, **fields) -> tuple[Exit, str, Path]:
        return await self.run(launch_of(workload(*python_command(code), **fields)))

    async def run_shell(self, line: str, **fields) -> tuple[Exit, str, Path]:
        return await self.run(launch_of(workload("/bin/sh", "-c", line, **fields)))


async def make_room(place: Path, cgroup_root: str = cgroups.ROOT) -> Room:
    place.mkdir(mode=0o700)
    driver = EmbeddedDriver(place / "runs", cgroup_root=cgroup_root)
    if cgroup_root != cgroups.ROOT:
        driver.disks.is_hard = lambda: False
    driver.runs.mkdir()
    rootfs, extra = host_rootfs(place / "rootfs")
    place.chmod(0o700)
    return Room(driver, rootfs, extra)


@pytest.fixture
async def room(tmp_path):
    room = await make_room(tmp_path / "data")
    yield room
    await close(room)


@pytest.fixture
async def bare_room(tmp_path):
    """The same without control groups and without file systems in files."""
    room = await make_room(tmp_path / "data", "/nowhere")
    yield room
    await close(room)


async def close(room: Room) -> None:
    for folder in list(room.driver.runs.iterdir()):
        await room.driver.remove(folder)
    await room.driver.reap(frozenset())
