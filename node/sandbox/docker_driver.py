"""The driver for production: containers by Docker Engine, in the strict profile.

The daemon creates and removes containers; the runner starts them, watches them and takes their
log, as it does for the embedded driver.

Spec: specs/execution.md#docker-driver.
"""

import hashlib
import io
import os
import socket
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

import docker
import docker.errors
import requests
import trio

from node.sandbox import runfolder
from node.sandbox.bwrap import Extra
from node.sandbox.docker_profile import OWNER_LABEL, Place, arguments_of
from node.sandbox.driver import CONTAINER, Exit, Launch, Probe
from node.sandbox.policy import UID_INSIDE, limits_of, require_runnable
from node.sandbox.runner import records
from protocol.values.errors import SandboxUnavailable

FAULTS: Final = (docker.errors.DockerException, requests.exceptions.RequestException, OSError)
"""What docker-py raises when the engine refuses, fails, hangs or is not there."""
REQUEST_SECONDS: Final = 60
API_VERSION: Final = "1.41"
"""That of Docker Engine 20.10; newer engines speak it too."""
DEFAULT_HOST: Final = "unix:///var/run/docker.sock"
REPOSITORY: Final = "mutirao"
OUT: Final = "out"
OUT_FILES: Final = 65_536
OLDEST: Final = (20, 10)
T = TypeVar("T")


class DockerDriver:
    """Containers by the engine at DOCKER_HOST, which has to be a Unix socket."""

    name = "docker"
    isolation = CONTAINER

    def __init__(self, runs: Path) -> None:
        """Take the folder that holds the run folders; it tells our containers from others'."""
        self.runs = runs
        self.owner = hashlib.sha256(os.fsencode(runs.absolute())).hexdigest()[:12]
        self.tag = f"selftest-{self.owner}"
        self.client: Any = None

    async def check(self) -> Probe:
        from node.sandbox import selftest  # noqa: PLC0415 - it imports us.

        try:
            await self._call(self._require_engine)
        except SandboxUnavailable as fault:
            return Probe(ok=False, why=str(fault))
        return await selftest.check_docker(self)

    async def start(self, launch: Launch, folder: Path) -> None:
        if not runfolder.is_known(folder):
            require_runnable(launch)
            image = await self._image(launch, folder)
            await self.start_with(launch, folder, (image, Extra()))
        else:
            await runfolder.run_runner(folder)

    async def start_with(self, launch: Launch, folder: Path, what: tuple[str, Extra]) -> None:
        """Start the engine's image with more than it has."""
        require_runnable(launch)
        await self._call(lambda: self._create(launch, folder, what))
        try:
            await runfolder.run_runner(folder)
        except SandboxUnavailable:
            await self._call(lambda: self._remove_container(launch.name))
            raise

    async def wait(self, folder: Path) -> Exit:
        return await runfolder.wait(folder)

    async def kill(self, folder: Path) -> None:
        await runfolder.kill(folder)

    async def extend(self, folder: Path, budget_ms: int) -> None:
        await runfolder.extend(folder, budget_ms)

    async def remove(self, folder: Path) -> None:
        await runfolder.kill(folder)
        name = runfolder.name_in(folder)
        if name:
            await self._call(lambda: self._remove_container(name))
        await self._call(lambda: _unmount(folder / OUT))
        await runfolder.remove_files(folder)

    async def reap(self, names: frozenset[str]) -> None:
        await self._call(lambda: self._reap(names))

    async def selftest_image(self) -> str:
        """Return the id of an image that is nothing but empty folders."""
        return await self._call(self._import_empty)

    async def remove_selftest_image(self) -> None:
        """Forget that image."""
        await self._call(self._remove_empty)

    async def _call(self, act: Callable[[], T]) -> T:
        """Ask the engine in a thread; its failures become SandboxUnavailable."""
        try:
            return await trio.to_thread.run_sync(act)
        except FAULTS as fault:
            why = getattr(fault, "explanation", None) or str(fault)
            raise SandboxUnavailable(f"Docker Engine: {_one_line(str(why))}") from fault

    def _engine(self) -> Any:
        """Return the connection to the engine."""
        if self.client is None:
            path = engine_socket()
            _require_listener(path)
            self.client = docker.DockerClient(
                base_url=f"unix://{path}", version=API_VERSION, timeout=REQUEST_SECONDS
            )
        return self.client

    def _require_engine(self) -> None:
        """Refuse an engine that is too old, remote, or without seccomp."""
        engine = self._engine()
        version = str(engine.version()["Version"])
        numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
        if numbers < OLDEST:
            raise SandboxUnavailable(f"Docker Engine {version} is too old; install 20.10 or newer")
        if not any("seccomp" in option for option in engine.info()["SecurityOptions"]):
            raise SandboxUnavailable("Docker Engine has no seccomp; its kernel must support it")

    async def _image(self, launch: Launch, folder: Path) -> str:
        """Return the engine's id of the launch's image, loading it if the engine lacks it."""
        name = f"{REPOSITORY}:{launch.workload.image.hex()}"
        found = await self._call(lambda: self._find_image(name))
        if found is not None:
            return found
        if launch.image_archive is None:
            raise SandboxUnavailable("the engine does not have the image")
        archive = folder / "image.tar"
        try:
            await launch.image_archive(archive)
            return await self._call(lambda: self._load(archive, name))
        finally:
            archive.unlink(missing_ok=True)

    def _find_image(self, name: str) -> str | None:
        try:
            return str(self._engine().images.get(name).id)
        except docker.errors.ImageNotFound:
            return None

    def _load(self, archive: Path, name: str) -> str:
        """Load the archive and name its image after the digest that we know it by."""
        with archive.open("rb") as file:
            images = self._engine().images.load(file)
        if len(images) != 1:
            raise SandboxUnavailable(f"the archive holds {len(images)} images instead of one")
        repository, tag = name.split(":")
        images[0].tag(repository, tag)
        return str(images[0].id)

    def _create(self, launch: Launch, folder: Path, what: tuple[str, Extra]) -> None:
        """Create the container, unless it exists, and write the launch record."""
        image, extra = what
        engine = self._engine()
        limits = limits_of(launch)
        root = os.geteuid() == 0
        sized = _make_out(folder / OUT, limits.output_mib) if root else _plain_out(folder / OUT)
        config = engine.images.get(image).attrs.get("Config") or {}
        place = Place(
            owner=self.owner,
            image=image,
            volumes=tuple(sorted(config.get("Volumes") or {})),
            out=(folder / OUT).absolute(),
            user=(UID_INSIDE, UID_INSIDE) if root else (os.getuid(), os.getgid()),
        )
        if root:
            launch = replace(launch, inputs=_readable(launch.inputs))
        try:
            engine.containers.create(**arguments_of(launch, place, extra))
        except docker.errors.APIError as fault:
            if fault.status_code != requests.codes.conflict:
                raise
        if launch.budget_ms:
            runfolder.write_record(folder, records.BUDGET, [("ms", str(launch.budget_ms))])
        numbers = {
            "timeout_ms": limits.timeout_ms,
            "log_mib": limits.log_mib,
            "output_mib": limits.output_mib,
            "memory_mib": limits.memory_mib,
            "sized": int(sized),
        }
        pairs = [("driver", "docker"), ("name", launch.name), ("socket", engine_socket())]
        pairs += [("out", str(place.out))]
        pairs += [(key, str(value)) for key, value in numbers.items()]
        runfolder.write_record(folder, records.LAUNCH, pairs)

    def _remove_container(self, name: str) -> None:
        try:
            self._engine().api.remove_container(name, v=True, force=True)
        except docker.errors.NotFound:
            return

    def _reap(self, names: frozenset[str]) -> None:
        engine = self._engine()
        labels = {"label": f"{OWNER_LABEL}={self.owner}"}
        for found in engine.api.containers(all=True, filters=labels):
            name = found["Names"][0].removeprefix("/")
            if name not in names:
                self._remove_container(name)

    def _import_empty(self) -> str:
        """Give the engine an image of empty folders, under the self-test's name, if it has none."""
        known = self._find_image(f"{REPOSITORY}:{self.tag}")
        if known is not None:
            return known
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for path in ("proc", "dev", "tmp", "in", "out", "run", "etc"):
                folder = tarfile.TarInfo(path)
                folder.type, folder.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(folder)
            for path in ("bin", "lib", "lib64"):
                if (Path("/") / path).is_symlink():
                    link = tarfile.TarInfo(path)
                    link.type, link.linkname = tarfile.SYMTYPE, str(Path(f"/{path}").readlink())
                    archive.addfile(link)
        engine = self._engine()
        engine.api.import_image_from_data(buffer.getvalue(), repository=REPOSITORY, tag=self.tag)
        return str(engine.images.get(f"{REPOSITORY}:{self.tag}").id)

    def _remove_empty(self) -> None:
        try:
            self._engine().images.remove(f"{REPOSITORY}:{self.tag}", force=True)
        except docker.errors.ImageNotFound:
            return


def engine_socket() -> str:
    """Return the path of the engine's socket; SandboxUnavailable if DOCKER_HOST names none."""
    host = os.environ.get("DOCKER_HOST") or DEFAULT_HOST
    if not host.startswith("unix:///"):
        raise SandboxUnavailable("DOCKER_HOST is not a Unix socket; use the embedded sandbox")
    return host.removeprefix("unix://")


def _require_listener(path: str) -> None:
    """Raise OSError if nobody listens: docker-py would leave its socket open."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(REQUEST_SECONDS)
        sock.connect(path)


def _make_out(place: Path, size_mib: int) -> bool:
    """Mount a sized file system in memory for /out; True, since the kernel bounds it."""
    place.mkdir(mode=0o700, exist_ok=True)
    if os.path.ismount(place):
        return True
    options = f"size={size_mib}m,nr_inodes={OUT_FILES},mode=0700,uid={UID_INSIDE},gid={UID_INSIDE}"
    command = ["mount", "-t", "tmpfs", "-o", f"nosuid,nodev,{options}", "mutirao-out", str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    if done.returncode != 0:
        raise SandboxUnavailable(f"cannot mount /out: {_one_line(done.stderr)}")
    return True


def _plain_out(place: Path) -> bool:
    """Make an ordinary folder for /out; False, since only the runner's watching bounds it."""
    place.mkdir(mode=0o700, exist_ok=True)
    return False


def _unmount(place: Path) -> None:
    """Undo `_make_out`."""
    if not os.path.ismount(place):
        return
    done = subprocess.run(["umount", "-l", str(place)], capture_output=True, text=True,
                          check=False, timeout=30)  # fmt: skip
    if done.returncode != 0:
        raise SandboxUnavailable(f"cannot unmount {place}: {_one_line(done.stderr)}")


def _readable(inputs: tuple[tuple[str, Path], ...]) -> tuple[tuple[str, Path], ...]:
    """Let the job's user read its inputs; the data folder around them keeps others out."""
    for _, path in inputs:
        path.chmod(path.stat().st_mode | 0o444)
    return inputs


def _one_line(text: str) -> str:
    """Return a foreign program's complaint as one short line."""
    return " ".join(text.split())[:300]
