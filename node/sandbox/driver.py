"""The daemon's port to a sandbox: start a container in a folder, wait for it, end it.

Each container has a run folder (0700, ours). A runner process that outlives the daemon writes
everything about the container there, so that all methods work on containers that an earlier daemon
started. Only the drivers look into a run folder. drivers.py lists the drivers; choice.py chooses
one.

Spec: specs/sandbox.md#drivers.
"""

import shutil
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from protocol.values.ids import Digest, LeaseId
from protocol.wire.job import Workload

RESOURCE_LIMITS: Final = ("memory", "pids", "cpu", "disk")
"""What a job may use at a time. The kernel enforces hard limits; the runner watches soft ones."""
REASONS: Final = ("exited", "timeout", "memory", "disk", "budget", "killed", "failed")
NAME_PREFIX: Final = "mutirao-"
"""The prefix of every container's name."""


class ImageSource(Protocol):
    """An image whose parts are all stored here, in the forms that drivers take."""

    @property
    def digest(self) -> Digest:
        """Return the digest of its manifest."""
        ...

    async def unpack(self) -> Path:
        """Return the root of the image, unpacked once and shared by all containers."""
        ...

    async def archive(self, path: Path) -> int:
        """Write the image to a new file, as `docker load` takes it; return its unpacked bytes."""
        ...


@dataclass(frozen=True, slots=True)
class RestoredFile:
    """A file of a checkpoint: its path below /out, and the node's file with its content."""

    path: str
    source: Path
    executable: bool = False


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """Everything that a driver needs to start one container.

    `name` is unique and deterministic (`name_of`). `env` and `working_dir` are the image's; the
    workload's own variables come on top.
    """

    name: str
    workload: Workload
    image: str
    """The image as the driver's `prepare` returned it: a folder, or an engine's id."""
    env: tuple[tuple[str, str], ...] = ()
    working_dir: str = ""
    inputs: tuple[tuple[str, Path], ...] = ()
    """A path under /in, and the node's file that appears there, read-only."""
    gpus: tuple[str, ...] = ()
    """UUIDs of the devices that the job gets."""
    budget_ms: int = 0
    """The paid usage; 0: only the time-out limits the container. `extend` raises it."""
    pause_ms: int = 0
    """How long a container that has used its budget stays paused before it is stopped."""
    restored: tuple[RestoredFile, ...] = ()
    """The files that the job finds in /out when it starts."""
    cpu_weight: int = 100
    """What it gets of a processor beside another program, in percent of what that one gets."""


@dataclass(frozen=True, slots=True)
class Exit:
    """How a container ended.

    `reason` is one of REASONS. "failed" means that the sandbox broke, not the job. `exit_code` is
    the job's own, 128 + n after signal n. `usage_ms` is wall time from start to exit, less the
    time in which the container was paused. `refused` has a line for each thing in /out that was not
    collected, and why.
    """

    exit_code: int
    reason: str
    detail: str
    usage_ms: int
    cpu_ms: int | None = None
    memory_peak_mib: int | None = None
    refused: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Probe:
    """What a driver's self-test proved: whether it works, why not, and which limits are hard."""

    ok: bool
    why: str
    limits: tuple[str, ...] = ()


class SandboxDriver(Protocol):
    """One way to run containers."""

    name: str
    isolation: int

    async def check(self) -> Probe:
        """Start real containers and report what held; never raises for a sandbox that fails."""
        ...

    async def prepare(self, image: ImageSource) -> str:
        """Make the image ready to start containers from; return the value of ContainerSpec.image.

        The first call may take minutes, later ones almost no time. Raises SandboxUnavailable, and
        what the image's own methods raise.
        """
        ...

    async def take_over(self, folder: Path) -> bool:
        """Return whether the folder's container runs or ran; False: no start was ever attempted.

        SandboxUnavailable if it is lost: it may have run, left no result, and must not run twice.
        """
        ...

    async def start(self, spec: ContainerSpec, folder: Path) -> None:
        """Return once the container runs; SandboxUnavailable with one clear line if it cannot.

        A container that was started in the folder before is adopted, never started again.
        """
        ...

    async def wait(self, folder: Path) -> Exit:
        """Return how the container of the folder ended, whoever started it."""
        ...

    def usage_ms(self, folder: Path) -> int:
        """Return for how long the folder's container has run, or ran, less pauses; 0 if never."""
        ...

    async def check_egress(self) -> str:
        """Return why jobs cannot reach the node's proxy here; "" if a real one did."""
        ...

    async def proxy_listener(self, folder: Path) -> socket.socket:
        """Return a socket that listens in a running container, for the node's proxy.

        SandboxUnavailable if there is none: the container has ended, or its job has no egress.
        """
        ...

    async def copy_checkpoint(self, folder: Path, path: str, mark: bytes) -> bytes:
        """Copy what lies at a path below /out of a running container to `checkpoint_path`.

        Return its mark, which changes when the job replaces it; b"" if there is nothing new:
        nothing lies there, it has the given mark, or the job replaces it at the moment. Raises
        InvalidRequest if it breaks the rules of outputs, StorageFull if there is no room.
        """
        ...

    async def terminate(self, folder: Path) -> None:
        """Send SIGTERM to the job: it may save its state and end."""
        ...

    async def kill(self, folder: Path) -> None:
        """End the container if it still runs; return when its runner has written the result."""
        ...

    async def extend(self, folder: Path, budget_ms: int) -> None:
        """Set a new budget of usage; a container that is paused for lack of budget resumes."""
        ...

    async def remove(self, folder: Path) -> None:
        """Remove everything of the container, the folder included."""
        ...

    async def reap(self, names: frozenset[str]) -> None:
        """Remove the containers of earlier daemons of this node that are not named here."""
        ...


def name_of(lease_id: LeaseId) -> str:
    """Return the name of the container that serves a lease."""
    return NAME_PREFIX + lease_id.hex()[:32]


def log_path(folder: Path) -> Path:
    """Return where the container's stdout and stderr grow, in order of arrival, capped."""
    return folder / "log"


def checkpoint_path(folder: Path) -> Path:
    """Return the folder with the copy of a checkpoint; its files have their paths below /out."""
    return folder / "checkpoint"


def outputs_path(folder: Path) -> Path:
    """Return the folder of collected outputs: after `wait`, regular files that the node owns.

    Their mode is 0600, or 0700 if the job made them executable.
    """
    return folder / "outputs"


@dataclass(frozen=True, slots=True)
class BundledOutput:
    """A small output whose bytes are in the bundle, from `offset` on."""

    path: str
    size: int
    executable: bool
    offset: int


def bundle_path(folder: Path) -> Path:
    """Return the file with the bytes of many small outputs; most jobs have none."""
    return folder / "outputs.bundle"


def bundled_outputs(folder: Path) -> tuple[BundledOutput, ...]:
    """Return the outputs in the bundle, in the order of their bytes; after `wait`."""
    index = folder / "outputs.index"
    found, offset = [], 0
    for line in index.read_text("utf-8").splitlines() if index.exists() else ():
        executable, size, path = line.split(" ", 2)
        found.append(BundledOutput(path, int(size), executable == "x", offset))
        offset += int(size)
    return tuple(found)


def discard_outputs(folder: Path) -> None:
    """Remove the collected outputs; what cannot be removed goes with the folder."""
    shutil.rmtree(outputs_path(folder), ignore_errors=True)
    for path in (bundle_path(folder), folder / "outputs.index"):
        path.unlink(missing_ok=True)
