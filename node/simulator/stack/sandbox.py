"""The sandbox of a node of a stack: containers that take virtual time, and leave real files.

A job's command says how much usage it needs, as in node/simulator/containers.py. When it ends well,
that number is its output; a checkpoint is a file with the number of milliseconds that are done.
Spec: specs/simulation.md#stack.
"""

import math
import shutil
import socket
from dataclasses import dataclass, field
from pathlib import Path

import trio

from node.driver.clock import Clock
from node.sandbox.driver import (
    ContainerSpec,
    Exit,
    ImageSource,
    Probe,
    checkpoint_path,
    log_path,
    outputs_path,
)
from node.simulator.containers import KILLED, NOTICED_MS, SAVING_MS, TERMINATED, work_of
from node.simulator.population import DRIVER
from protocol.values.errors import SandboxUnavailable

OUTPUT = "usage-ms"
"""The name of a job's only output."""


@dataclass(slots=True)
class StackContainer:
    """One container. Its usage is the time since its start, less pauses."""

    spec: ContainerSpec
    started_ms: int
    done_ms: int
    """What its checkpoint had done before."""
    budget_ms: float
    paused_ms: int = 0
    paused_since_ms: int | None = None
    leaves_ms: float = math.inf
    """When it ends because it was told to."""
    exit: Exit | None = None
    changed: trio.Event = field(default_factory=trio.Event)

    @property
    def whole_ms(self) -> int:
        """The usage at which it ends by itself, or by its time-out."""
        workload = self.spec.workload
        return min(work_of(workload) - self.done_ms, workload.timeout_ms)

    def used_ms(self, now_ms: int) -> int:
        if self.exit is not None:
            return self.exit.usage_ms
        until_ms = now_ms if self.paused_since_ms is None else self.paused_since_ms
        return until_ms - self.started_ms - self.paused_ms

    def end(self, code: int, reason: str, now_ms: int) -> None:
        """End it, if it has not ended."""
        if self.exit is None:
            self.exit = Exit(code, reason, "", self.used_ms(now_ms))
        self.changed.set()

    def advance(self, now_ms: int) -> float:
        """Do what is due; return at which time it has to be looked at again."""
        used_ms = self.used_ms(now_ms)
        if now_ms >= self.leaves_ms:
            self.end(TERMINATED, "exited", now_ms)
        elif used_ms >= self.whole_ms:
            is_done = used_ms >= work_of(self.spec.workload) - self.done_ms
            self.end(*((0, "exited") if is_done else (KILLED, "timeout")), now_ms)
        elif self.paused_since_ms is None and used_ms >= self.budget_ms:
            self.paused_since_ms = now_ms
        if self.exit is not None:
            return now_ms
        if self.paused_since_ms is None:
            due_ms = now_ms - used_ms + min(self.whole_ms, self.budget_ms)
        else:
            due_ms = self.paused_since_ms + self.spec.pause_ms
            if now_ms >= due_ms:
                self.end(KILLED, "budget", now_ms)
        return min(due_ms, self.leaves_ms)


class StackSandbox:
    """Implements node.sandbox.driver.SandboxDriver."""

    name = DRIVER
    isolation = 0

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._containers: dict[Path, StackContainer] = {}
        self._started: set[Path] = set()

    def lose_all(self) -> None:
        """Lose all containers: the machine has gone."""
        self._containers.clear()

    async def check(self) -> Probe:
        await trio.lowlevel.checkpoint()
        return Probe(ok=True, why="it is simulated")

    async def prepare(self, image: ImageSource) -> str:
        await trio.lowlevel.checkpoint()
        return image.digest.hex()

    async def take_over(self, folder: Path) -> bool:
        await trio.lowlevel.checkpoint()
        if folder in self._started and folder not in self._containers:
            raise SandboxUnavailable("the container went with its machine")
        return folder in self._containers

    async def start(self, spec: ContainerSpec, folder: Path) -> None:
        await trio.sleep(NOTICED_MS / 1000)
        self._started.add(folder)
        done_ms = await trio.to_thread.run_sync(_begin, spec, folder)
        budget_ms = spec.budget_ms or math.inf
        now_ms = self._clock.now_ms()
        self._containers[folder] = StackContainer(spec, now_ms, done_ms, budget_ms)

    async def wait(self, folder: Path) -> Exit:
        container = self._get(folder)
        while container.exit is None:
            container.changed = trio.Event()
            now_ms = self._clock.now_ms()
            due_ms = container.advance(now_ms)
            if container.exit is None:
                with trio.move_on_after((due_ms - now_ms) / 1000):
                    await container.changed.wait()
        await trio.to_thread.run_sync(_leave_files, container, folder)
        return container.exit

    def usage_ms(self, folder: Path) -> int:
        container = self._containers.get(folder)
        return container.used_ms(self._clock.now_ms()) if container else 0

    async def check_egress(self) -> str:
        await trio.lowlevel.checkpoint()
        return "a simulated job reaches nothing"

    async def proxy_listener(self, folder: Path) -> socket.socket:
        await trio.lowlevel.checkpoint()
        raise SandboxUnavailable(f"a simulated job reaches nothing: {folder.name}")

    async def copy_checkpoint(self, folder: Path, path: str, mark: bytes) -> bytes:
        container = self._get(folder)
        done = b"%d" % (container.done_ms + container.used_ms(self._clock.now_ms()))
        if done == mark:
            return b""
        await trio.to_thread.run_sync(_write, checkpoint_path(folder) / path, done)
        return done

    async def terminate(self, folder: Path) -> None:
        await trio.lowlevel.checkpoint()
        container = self._get(folder)
        container.leaves_ms = min(container.leaves_ms, self._clock.now_ms() + SAVING_MS)
        container.changed.set()

    async def kill(self, folder: Path) -> None:
        await trio.lowlevel.checkpoint()
        if folder in self._containers:
            self._containers[folder].end(KILLED, "killed", self._clock.now_ms())

    async def extend(self, folder: Path, budget_ms: int) -> None:
        await trio.lowlevel.checkpoint()
        container, now_ms = self._get(folder), self._clock.now_ms()
        container.budget_ms = max(container.budget_ms, budget_ms)
        since_ms = container.paused_since_ms
        if since_ms is not None and container.used_ms(now_ms) < container.budget_ms:
            container.paused_ms += now_ms - since_ms
            container.paused_since_ms = None
        container.changed.set()

    async def remove(self, folder: Path) -> None:
        self._containers.pop(folder, None)
        self._started.discard(folder)
        await trio.to_thread.run_sync(shutil.rmtree, folder)

    async def reap(self, names: frozenset[str]) -> None:
        await trio.lowlevel.checkpoint()
        for folder, container in tuple(self._containers.items()):
            if container.spec.name not in names:
                del self._containers[folder]

    def _get(self, folder: Path) -> StackContainer:
        container = self._containers.get(folder)
        if container is None:
            raise SandboxUnavailable("the container went with its machine")
        return container


def _begin(spec: ContainerSpec, folder: Path) -> int:
    """Begin a container's log; return how much of its work is done already."""
    log_path(folder).write_bytes(" ".join(spec.workload.command).encode() + b"\n")
    return sum(int(file.source.read_bytes()) for file in spec.restored)


def _leave_files(container: StackContainer, folder: Path) -> None:
    """Write what a job leaves behind in /out."""
    ended = container.exit
    assert ended is not None
    outputs_path(folder).mkdir(exist_ok=True)
    if ended.exit_code == 0:
        _write(outputs_path(folder) / OUTPUT, b"%d" % ended.usage_ms)
    checkpoint = container.spec.workload.checkpoint
    if ended.exit_code == TERMINATED and checkpoint:
        done = b"%d" % (container.done_ms + ended.usage_ms)
        _write(outputs_path(folder) / checkpoint, done)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
