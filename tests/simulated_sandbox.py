"""The sandboxes of a simulated network: containers that run, pause and end in virtual time.

Spec: specs/lease.md#exposure.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from protocol.machines import effects, inputs
from protocol.values.ids import LeaseId, digest_of
from protocol.wire.job import BlobRef
from tests.simulated_node import Container, Node


class SimulatedSandboxes(ABC):
    """The containers of all nodes. The network that this is part of has the clock."""

    now_ms: int
    job_ms: int
    exit_codes: dict[str, int]
    saving_ms: int
    """How long a job needs to save its state when it is told to end."""
    checkpoints: dict[bytes, int]
    """The work that each checkpoint holds, in ms, by its digest."""

    @abstractmethod
    def after(self, delay_ms: int, action: Callable[[], object]) -> None: ...

    @abstractmethod
    def _later(self, delay_ms: int, node: Node, event: Any) -> None: ...

    @abstractmethod
    def _say(self, line: str) -> None: ...

    def _launch(self, node: Node, launch: effects.Launch) -> None:
        lease_id = launch.lease_id
        if lease_id not in node.launched:
            self._say(f"{node.name}: launches the container")
            node.launched.add(lease_id)
            node.containers[lease_id] = Container(
                self.now_ms, launch.budget_ms, launch.pause_ms, node.generation,
                begun_ms=sum(self.checkpoints[each.digest] for each in launch.workload.resume),
            )  # fmt: skip
            self._go_on(node, lease_id)
        container = node.containers.get(lease_id)
        if container is None:
            self._later(1, node, inputs.ContainerFailed(lease_id, "the container is gone"))
            return
        first = container.started_ms == self.now_ms
        assert first or container.launched_by < node.generation, "a second launch without a crash"
        container.launched_by = node.generation
        self._extend(node, lease_id, launch.budget_ms)
        self._later(1, node, inputs.ContainerStarted(lease_id, self._used_ms(container)))
        if container.exited:
            self._tell_exit(node, container)

    def _extend(self, node: Node, lease_id: LeaseId, budget_ms: int) -> None:
        container = node.containers[lease_id]
        container.budget_ms = max(container.budget_ms, budget_ms)
        since_ms = container.paused_since_ms
        if since_ms is not None and container.used_ms(self.now_ms) < container.budget_ms:
            container.paused_ms += self.now_ms - since_ms
            container.paused_since_ms = None
            self._go_on(node, lease_id)
        self._later(1, node, inputs.ContainerExtended(lease_id, self._used_ms(container)))

    def _used_ms(self, container: Container) -> int:
        """Return its usage when the node hears of it, a millisecond from now."""
        if container.exited:
            return container.exited.usage_ms
        return min(container.budget_ms, container.used_ms(self.now_ms + 1))

    def _go_on(self, node: Node, lease_id: LeaseId) -> None:
        container = node.containers[lease_id]
        work_ms = self.job_ms - container.begun_ms
        left_ms = min(work_ms, container.budget_ms) - container.used_ms(self.now_ms)
        self.after(left_ms, lambda: self._reach_end(node, lease_id))

    def _reach_end(self, node: Node, lease_id: LeaseId) -> None:
        """End a container whose job is done, or pause it at the end of its budget."""
        container = node.containers.get(lease_id)
        if container is None or container.exited or container.paused_since_ms is not None:
            return
        used_ms = container.used_ms(self.now_ms)
        if used_ms >= self.job_ms - container.begun_ms:
            self._exit(node, lease_id, self.exit_codes.get(node.name, 0), "exited")
        elif used_ms >= container.budget_ms:
            self._say(f"{node.name}: the container is paused")
            container.paused_since_ms = since_ms = self.now_ms
            self.after(container.pause_ms, lambda: self._give_up(node, lease_id, since_ms))
        else:
            self._go_on(node, lease_id)

    def _give_up(self, node: Node, lease_id: LeaseId, since_ms: int) -> None:
        container = node.containers.get(lease_id)
        if container and not container.exited and container.paused_since_ms == since_ms:
            self._exit(node, lease_id, 137, "budget")

    def _take_checkpoint(self, node: Node, lease_id: LeaseId, mark: bytes = b"") -> None:
        """Store what a job has done until now; each has done something since its last."""
        container = node.containers.get(lease_id)
        if container is None or (container.exited and mark):
            return
        done_ms = container.begun_ms + container.used_ms(self.now_ms)
        listing = BlobRef(digest_of(b"checkpoint %d of " % done_ms + lease_id), 64)
        self.checkpoints[listing.digest] = done_ms
        taken = inputs.CheckpointTaken(lease_id, b"%d" % done_ms, listing, done_ms)
        self._later(1, node, taken)

    def _terminate(self, node: Node, lease_id: LeaseId) -> None:
        """Let a job save its state and end."""
        container = node.containers.get(lease_id)
        if container is not None and container.exited is None:
            self._take_checkpoint(node, lease_id)
            self._exit(node, lease_id, 143, "exited")

    def _kill(self, node: Node, lease_id: LeaseId) -> None:
        if lease_id in node.containers:
            self._exit(node, lease_id, 137, "killed")

    def _exit(self, node: Node, lease_id: LeaseId, code: int, why: str) -> None:
        container = node.containers[lease_id]
        if container.exited is None:
            self._say(f"{node.name}: the container ends ({why})")
            usage_ms = container.used_ms(self.now_ms)
            outputs = BlobRef(digest_of(lease_id), 64)
            container.exited = inputs.ContainerExited(lease_id, code, why, "", usage_ms, outputs)
        self._tell_exit(node, container)

    def _tell_exit(self, node: Node, container: Container) -> None:
        if node.alive and container.told < node.generation:
            container.told = node.generation
            self._later(1, node, container.exited)
