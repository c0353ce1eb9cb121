"""The driver for production: containers by Docker Engine, in the strict profile.

The daemon creates and removes containers; the runner starts them, watches them and takes their
log, as it does for the embedded driver.

Spec: specs/sandbox.md#docker-driver.
"""

import hashlib
import logging
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Final

import docker.errors
import requests
from docker.types import Mount

from node.sandbox import docker_outputs, runfolder, selftest
from node.sandbox.bwrap import Extra
from node.sandbox.docker_engine import Engine, engine_socket
from node.sandbox.docker_images import DockerImages
from node.sandbox.docker_profile import OWNER_LABEL, Place, arguments_of
from node.sandbox.driver import CONTAINER, ContainerSpec, ImageSource, Probe
from node.sandbox.policy import UID_INSIDE, limits_of, require_runnable
from node.sandbox.runner import records
from protocol.values.errors import SandboxUnavailable

LOG: Final = logging.getLogger(__name__)
OUT: Final = "out"


class DockerDriver(runfolder.RunFolders):
    """Containers by the engine at DOCKER_HOST, which has to be a Unix socket."""

    name = "docker"
    isolation = CONTAINER

    def __init__(self, runs: Path, unpacked_mib: int) -> None:
        """Take the folder that holds the run folders; it tells our containers from others'.

        `unpacked_mib` bounds the images that the engine keeps for us.
        """
        super().__init__()
        self.runs = runs
        if os.geteuid() != 0:
            self.user_inside = os.getuid()  # We can read nobody else's files in /out.
        self.owner = hashlib.sha256(os.fsencode(runs.absolute())).hexdigest()[:12]
        self.engine = Engine()
        self.images = DockerImages(self.engine, runs, f"selftest-{self.owner}", unpacked_mib)

    async def check(self) -> Probe:
        try:
            await self.engine.ask(self.engine.require)
        except SandboxUnavailable as fault:
            return Probe(ok=False, why=str(fault))
        probe = await selftest.check(self)
        if not probe.ok:  # It is here, and its owner expects it to be used.
            LOG.warning("Docker Engine answers but is not used: %s", probe.why)
        return probe

    async def prepare(self, image: ImageSource) -> str:
        found = await self.images.have(image)
        await self.runners.make_spare()
        return found

    async def start(self, spec: ContainerSpec, folder: Path) -> None:
        await self.start_with(spec, folder, Extra())

    async def start_with(self, spec: ContainerSpec, folder: Path, extra: Extra) -> None:
        """Start with more than the image has: the self-test binds the machine's own programs."""
        if runfolder.is_known(folder):
            await self.runners.run(folder)
            return
        require_runnable(spec)
        await self.engine.ask(lambda: self._create(spec, folder, extra))
        try:
            await self.runners.run(folder)
        except SandboxUnavailable:
            await self.engine.ask(lambda: self._remove_container(spec.name))
            raise

    async def remove(self, folder: Path) -> None:
        await self.kill(folder)
        name = runfolder.name_in(folder)
        if name:
            await self.engine.ask(lambda: self._remove_container(name))
        await self.engine.ask(lambda: docker_outputs.unmount(folder / OUT))
        await runfolder.remove_files(folder)

    async def reap(self, names: frozenset[str]) -> None:
        self.runners.end_spare()
        try:
            await self.engine.ask(lambda: self._reap(names))
            await self.forget_selftest_image()
        finally:
            self.engine.close()  # At a node's end nobody asks again.

    def soft_limits(self) -> frozenset[str]:
        """Return none: the engine sets them all."""
        return frozenset()

    async def selftest_image(self, rootfs: Path) -> str:
        """Return the engine's id of an image that is this root."""
        return await self.images.selftest_image(rootfs)

    async def forget_selftest_image(self) -> None:
        """Remove that image from the engine."""
        await self.images.remove_selftest_image()

    def _create(self, spec: ContainerSpec, folder: Path, extra: Extra) -> None:
        """Create the container, unless it exists, and write the launch record."""
        engine = self.engine.client()
        limits = limits_of(spec)
        out, where = self._outputs(spec.name, folder, limits.output_mib)
        place = Place(self.owner, spec.image, out, (self.user_inside, UID_INSIDE))
        if os.geteuid() == 0:
            spec = replace(spec, inputs=_readable(spec.inputs))
        try:
            engine.api.create_container(**arguments_of(spec, place, extra))
        except docker.errors.APIError as fault:
            if fault.status_code != requests.codes.conflict:
                raise
        if spec.budget_ms:
            runfolder.write_record(folder, records.BUDGET, [("ms", str(spec.budget_ms))])
        numbers = {
            "timeout_ms": limits.timeout_ms,
            "pause_ms": limits.pause_ms,
            "log_mib": limits.log_mib,
            "output_mib": limits.output_mib,
            "memory_mib": limits.memory_mib,
        }
        pairs = [("driver", "docker"), ("name", spec.name), ("socket", engine_socket())]
        pairs += [where, ("command", spec.workload.command[0])]
        pairs += [(key, str(value)) for key, value in numbers.items()]
        runfolder.write_record(folder, records.LAUNCH, pairs)

    def _outputs(self, name: str, folder: Path, size_mib: int) -> tuple[Mount, tuple[str, str]]:
        """Make a container's /out; return its mount, and how the runner finds it."""
        if os.geteuid() == 0:
            place = (folder / OUT).absolute()
            return docker_outputs.mount(place, size_mib), ("out", str(place))
        api = self.engine.client().api
        volume = docker_outputs.make_volume(api, name, self.owner, size_mib)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            rootfs, extra = selftest.host_rootfs(Path(scratch) / "rootfs")
            image = self.images.import_selftest(rootfs)
        keeper = docker_outputs.make_keeper(api, volume, self.owner, image, extra)
        return volume, ("keeper", keeper)

    def _remove_container(self, name: str) -> None:
        """Remove a container with all that was made for it, as far as it is there."""
        api = self.engine.client().api
        for each in (name, name + docker_outputs.KEEPER_SUFFIX):
            try:
                api.remove_container(each, v=True, force=True)
            except docker.errors.NotFound:
                continue
        docker_outputs.remove_volume(api, name)

    def _reap(self, names: frozenset[str]) -> None:
        api = self.engine.client().api
        labels = {"label": f"{OWNER_LABEL}={self.owner}"}
        found = {each["Names"][0] for each in api.containers(all=True, filters=labels)}
        found |= {each["Name"] for each in api.volumes(filters=labels)["Volumes"] or ()}
        ours = {name.removeprefix("/").removesuffix(docker_outputs.KEEPER_SUFFIX) for name in found}
        for name in ours - names:
            self._remove_container(name)


def _readable(inputs: tuple[tuple[str, Path], ...]) -> tuple[tuple[str, Path], ...]:
    """Let the job's user read its inputs; the data folder around them keeps others out."""
    for _, path in inputs:
        path.chmod(path.stat().st_mode | 0o444)
    return inputs
