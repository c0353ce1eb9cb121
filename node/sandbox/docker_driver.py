"""The driver for production: containers by Docker Engine, in the strict profile.

The daemon creates and removes containers; the runner starts them, supervises them and reads their
log, as it does for the embedded driver.

Spec: specs/sandbox.md#docker-driver.
"""

import logging
import os
import tempfile
from functools import partial
from pathlib import Path
from typing import Final

import docker.errors
import requests
import trio
from docker.types import Mount

from node.sandbox import amd, docker_outputs, runfolder, selftest
from node.sandbox.bwrap import Extra
from node.sandbox.docker_engine import RUNC, DockerEngine, engine_socket
from node.sandbox.docker_gpus import request_for
from node.sandbox.docker_images import DockerImages
from node.sandbox.docker_profile import INIT_PROCESSES, OWNER_LABEL, Place, arguments_of
from node.sandbox.driver import ContainerSpec, ImageSource, Probe
from node.sandbox.job_disks import JobDisks
from node.sandbox.policy import UID_INSIDE, Pairs, is_amd, limits_of
from node.sandbox.runner import job_disk
from node.sandbox.runner_driver import RunnerDriver, let_read
from protocol.values.errors import SandboxUnavailable

LOG: Final = logging.getLogger(__name__)
OUT: Final = "out"


class DockerDriver(RunnerDriver):
    """Containers of the engine at DOCKER_HOST, which must be a Unix socket."""

    name = "docker"
    runner = "engine"
    guards_init = False
    runtime = RUNC
    own_processes = INIT_PROCESSES

    def __init__(self, runs: Path, unpacked_mib: int) -> None:
        """Take the folder that holds the run folders.

        `unpacked_mib` bounds the images that the engine keeps for us.
        """
        super().__init__(runs)
        if os.geteuid() != 0:
            self.user_inside = os.getuid()  # We can read nobody else's files in /out.
        self.disks = JobDisks(runs)
        self.engine = DockerEngine()
        self.images = DockerImages(self.engine, runs, f"selftest-{self.owner}", unpacked_mib)

    async def require(self) -> None:
        await self.engine.ask(lambda: self.engine.require(self.runtime))

    async def check(self) -> Probe:
        try:
            await self.require()
        except SandboxUnavailable as fault:
            return Probe(ok=False, why=str(fault))
        probe = await selftest.check(self)
        if not probe.ok:  # The owner runs an engine and expects the node to use it.
            LOG.warning("Docker Engine answers but is not used: %s", probe.why)
        return probe

    async def check_egress(self) -> str:
        if os.geteuid() != 0:
            return "with Docker only a node that runs as root can serve a job's proxy"
        return await selftest.check_egress(self)

    def soft_limits(self) -> frozenset[str]:
        """Return the disk, if we may not mount: the engine sets all others."""
        return frozenset() if self.disks.is_hard() else frozenset({"disk"})

    async def selftest_image(self, rootfs: Path) -> str:
        """Return the engine's id of an image that is this root."""
        return await self.images.selftest_image(rootfs)

    async def forget_selftest_image(self) -> None:
        """Remove that image from the engine."""
        await self.images.remove_selftest_image()

    async def _take_image(self, image: ImageSource) -> str:
        return await self.images.have(image)

    async def start(self, spec: ContainerSpec, folder: Path) -> None:
        extra = Extra()
        if any(map(is_amd, spec.gpus)):
            extra = await trio.to_thread.run_sync(amd.nodes_for, spec.gpus)
        await self.start_with(spec, folder, extra)

    async def _make(self, spec: ContainerSpec, folder: Path, extra: Extra) -> Pairs:
        return await self.engine.ask(lambda: self._create(spec, folder, extra))

    async def _discard(self, folder: Path) -> None:
        if name := runfolder.name_in(folder):
            await self.engine.ask(lambda: self._remove_container(name))
        for place in (OUT, job_disk.DISK):
            await self.engine.ask(partial(docker_outputs.unmount, folder / place))

    async def _reap(self, names: frozenset[str]) -> None:
        try:
            await self.engine.ask(lambda: self._remove_others(names))
            await self.forget_selftest_image()
        finally:
            self.disks.close()
            self.engine.close()  # At the end of a node this is the last request.

    def _create(self, spec: ContainerSpec, folder: Path, extra: Extra) -> Pairs:
        """Create the container, unless it exists; return what the runner needs to know."""
        limits = limits_of(spec)
        kind = self.disks.prepare(folder, limits)
        if kind == job_disk.IN_MEMORY:
            out, where = self._outputs(spec.name, folder, limits.output_mib)
            disk = (out,)
        else:
            disk, where = docker_outputs.make_disk(folder, kind)
        nvidia = tuple(uuid for uuid in spec.gpus if not is_amd(uuid))
        gpus = request_for(nvidia, self.engine.client().info() if nvidia else {})
        user = (self.user_inside, UID_INSIDE)
        network = self._hold(spec.name, folder) if spec.workload.egress else ""
        place = Place(
            self.owner, spec.image, disk, user, gpus, self.runtime, self.own_processes, network
        )
        if os.geteuid() == 0:
            let_read(path for _, path in spec.inputs)
        try:
            self.engine.client().api.create_container(**arguments_of(spec, place, extra))
        except docker.errors.APIError as fault:
            if fault.status_code != requests.codes.conflict:
                raise
        owner = [("uid", str(UID_INSIDE))] if os.geteuid() == 0 else []
        holds = [("network", network)] if network else []
        return [("socket", engine_socket()), ("disk", kind), where, *owner, *holds]

    def _outputs(self, name: str, folder: Path, size_mib: int) -> tuple[Mount, tuple[str, str]]:
        """Make a container's /out; return its mount, and the record field to find it by."""
        if os.geteuid() == 0:
            place = (folder / OUT).absolute()
            return docker_outputs.mount(place, size_mib), ("out", str(place))
        api = self.engine.client().api
        volume = docker_outputs.make_volume(api, name, self.owner, size_mib)
        return volume, ("holder", self._hold(name, folder, volume))

    def _hold(self, name: str, folder: Path, *mounts: Mount) -> str:
        """Create the holder of a container; return its name."""
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            rootfs, extra = selftest.host_rootfs(Path(scratch) / "rootfs")
            root = self.images.import_selftest(rootfs), extra
        api = self.engine.client().api
        return docker_outputs.make_holder(api, name, self.owner, root, *mounts)

    def _remove_container(self, name: str) -> None:
        """Remove a container, its holder and its volume, as far as they exist."""
        api = self.engine.client().api
        for each in (name, name + docker_outputs.HOLDER_SUFFIX):
            try:
                api.remove_container(each, v=True, force=True)
            except docker.errors.NotFound:
                continue
        docker_outputs.remove_volume(api, name)

    def _remove_others(self, names: frozenset[str]) -> None:
        api = self.engine.client().api
        labels = {"label": f"{OWNER_LABEL}={self.owner}"}
        found = {each["Names"][0] for each in api.containers(all=True, filters=labels)}
        found |= {each["Name"] for each in api.volumes(filters=labels)["Volumes"] or ()}
        ours = {name.removeprefix("/").removesuffix(docker_outputs.HOLDER_SUFFIX) for name in found}
        for name in ours - names:
            self._remove_container(name)
