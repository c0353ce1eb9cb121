"""The sandboxes of simulated nodes: containers that run, pause and end in virtual time.

A job's command is `work` and how many milliseconds of usage it needs.
Spec: specs/lease.md#exposure.
"""

from collections.abc import Callable
from typing import Any, Final, Protocol

from node.simulator.node import SimulatedContainer, SimulatedNode
from protocol.machines import effects, inputs
from protocol.values.ids import LeaseId, digest_of
from protocol.wire.job import BlobRef, Workload

WORK: Final = "work"
NOTICED_MS: Final = 1
"""How long a node needs to notice what happened to a container."""
SAVING_MS: Final = 500
"""How long a job needs to save its state when it is told to end."""
KILLED: Final = 137
TERMINATED: Final = 143


class ContainerHost(Protocol):
    """What the sandboxes need of the network that they are in."""

    @property
    def now_ms(self) -> int: ...

    def after(self, delay_ms: int, call: Callable[..., object], *arguments: Any) -> None:
        """Call something after a while."""

    def later(self, delay_ms: int, node: SimulatedNode, call: Any, *arguments: Any) -> None:
        """Call something after a while, unless the node has gone meanwhile."""

    def give(self, node: SimulatedNode, event: inputs.Input) -> None:
        """Give a node an input."""

    def process(self, node: SimulatedNode, call: Any, *arguments: Any) -> None:
        """Call something when a node has processed it, unless it has gone meanwhile."""


class Containers:
    """Performs the effects that concern containers.

    A container goes on while its node's daemon is away, and is adopted when that comes back.
    """

    def __init__(self, world: ContainerHost) -> None:
        self._world = world
        self.done_ms: dict[bytes, int] = {}
        """The work that each checkpoint holds, by its digest."""

    def launch(self, node: SimulatedNode, wanted: effects.Launch) -> None:
        """Start the container of a lease, or adopt it.

        One that went with its machine is not started again.
        """
        if wanted.lease_id in node.disk.launched:
            self._adopt(node, wanted)
            return
        node.disk.launched.add(wanted.lease_id)
        begun_ms = sum(self.done_ms.get(each.digest, 0) for each in wanted.workload.resume)
        container = node.containers[wanted.lease_id] = SimulatedContainer(
            self.work_of(wanted.workload) - begun_ms, wanted.budget_ms, wanted.pause_ms,
            self._world.now_ms, begun_ms=begun_ms, watched_by=node.generation,
        )  # fmt: skip
        self._tell(node, inputs.ContainerStarted(wanted.lease_id, self._used_ms(container)))
        self._go_on(node, wanted.lease_id, container)

    def extend(self, node: SimulatedNode, wanted: effects.Extend) -> None:
        """Raise a container's budget; one that waited for it goes on."""
        container = node.containers.get(wanted.lease_id)
        if container is None or container.exited:
            return
        container.budget_ms = max(container.budget_ms, wanted.budget_ms)
        self._resume(node, wanted.lease_id, container)
        self._tell(node, inputs.ContainerExtended(wanted.lease_id, self._used_ms(container)))

    def take_checkpoint(self, node: SimulatedNode, wanted: effects.TakeCheckpoint) -> None:
        """Store what a job has done until now."""
        container = node.containers.get(wanted.lease_id)
        if container is not None and not (container.exited and wanted.mark):
            self._take_checkpoint(node, wanted.lease_id, container)

    def terminate(self, node: SimulatedNode, wanted: effects.Terminate) -> None:
        """Let a job save its state and end."""
        self._world.after(SAVING_MS, self._terminate, node, wanted)

    def kill(self, node: SimulatedNode, wanted: effects.Kill) -> None:
        """Stop a container; what it has used until now counts."""
        container = node.containers.get(wanted.lease_id)
        if container is not None:
            container.watched_by = node.generation
            self._exit(node, wanted.lease_id, KILLED, "killed")

    def drop(self, node: SimulatedNode, wanted: effects.Drop) -> None:
        """Forget a container."""
        node.disk.launched.discard(wanted.lease_id)
        node.containers.pop(wanted.lease_id, None)

    def reap(self, node: SimulatedNode) -> None:
        """Remove what a node that has come back holds no lease of."""
        for lease_id in tuple(node.containers):
            if lease_id not in node.core.provider.leases:
                del node.containers[lease_id]

    def work_of(self, workload: Workload) -> int:
        """Return how many milliseconds of usage a job needs."""
        return work_of(workload)

    def _adopt(self, node: SimulatedNode, wanted: effects.Launch) -> None:
        """Watch a container that was launched before this node had gone."""
        lease_id, container = wanted.lease_id, node.containers.get(wanted.lease_id)
        if container is None:
            why = "the container went with its machine"
            self._tell(node, inputs.ContainerFailed(lease_id, why))
            return
        assert container.watched_by < node.generation, "a second launch without a restart"
        container.watched_by = node.generation
        container.budget_ms = max(container.budget_ms, wanted.budget_ms)
        self._resume(node, lease_id, container)
        self._tell(node, inputs.ContainerStarted(lease_id, self._used_ms(container)))
        self._tell_exit(node, container)

    def _resume(
        self, node: SimulatedNode, lease_id: LeaseId, container: SimulatedContainer
    ) -> None:
        """Let a container go on that was paused at a smaller budget than it has."""
        now_ms, since_ms = self._world.now_ms, container.paused_since_ms
        if since_ms is not None and container.used_ms(now_ms) < container.budget_ms:
            container.paused_ms += now_ms - since_ms
            container.paused_since_ms = None
            self._go_on(node, lease_id, container)

    def _used_ms(self, container: SimulatedContainer) -> int:
        """Return its usage when the node hears of it."""
        return min(container.budget_ms, container.used_ms(self._world.now_ms + NOTICED_MS))

    def _go_on(self, node: SimulatedNode, lease_id: LeaseId, container: SimulatedContainer) -> None:
        until_ms = min(container.work_ms, container.budget_ms)
        left_ms = max(0, until_ms - container.used_ms(self._world.now_ms))
        self._world.after(left_ms, self._reach_end, node, lease_id, container)

    def _reach_end(
        self, node: SimulatedNode, lease_id: LeaseId, container: SimulatedContainer
    ) -> None:
        """End a container whose work is done, or pause it at the end of its budget."""
        is_there = node.containers.get(lease_id) is container
        if not is_there or container.exited or container.paused_since_ms is not None:
            return
        used_ms = container.used_ms(self._world.now_ms)
        if used_ms >= container.work_ms:
            self._exit(node, lease_id, 0, "exited")
        elif used_ms >= container.budget_ms:
            self._pause(node, lease_id, container)
        else:
            self._go_on(node, lease_id, container)

    def _pause(self, node: SimulatedNode, lease_id: LeaseId, container: SimulatedContainer) -> None:
        container.paused_since_ms = since_ms = self._world.now_ms
        self._world.after(container.pause_ms, self._give_up, node, lease_id, container, since_ms)

    def _give_up(
        self, node: SimulatedNode, lease_id: LeaseId, container: SimulatedContainer, since_ms: int
    ) -> None:
        is_there = node.containers.get(lease_id) is container and container.exited is None
        if is_there and container.paused_since_ms == since_ms:
            self._exit(node, lease_id, KILLED, "budget")

    def _terminate(self, node: SimulatedNode, wanted: effects.Terminate) -> None:
        container = node.containers.get(wanted.lease_id)
        if container is not None and container.exited is None:
            self._take_checkpoint(node, wanted.lease_id, container)
            self._exit(node, wanted.lease_id, TERMINATED, "exited")

    def _take_checkpoint(
        self, node: SimulatedNode, lease_id: LeaseId, container: SimulatedContainer
    ) -> None:
        done_ms = container.begun_ms + container.used_ms(self._world.now_ms)
        listing = BlobRef(digest_of(b"checkpoint %d of " % done_ms + lease_id), 64)
        self.done_ms[listing.digest] = done_ms
        self._tell(node, inputs.CheckpointTaken(lease_id, b"%d" % done_ms, listing, done_ms))

    def _exit(self, node: SimulatedNode, lease_id: LeaseId, code: int, why: str) -> None:
        """End a container, unless it has ended."""
        container = node.containers[lease_id]
        if container.exited is None:
            usage_ms = container.used_ms(self._world.now_ms)
            outputs = BlobRef(digest_of(lease_id), 64)
            container.exited = inputs.ContainerExited(lease_id, code, why, "", usage_ms, outputs)
        self._tell_exit(node, container)

    def _tell_exit(self, node: SimulatedNode, container: SimulatedContainer) -> None:
        """Tell a daemon that watches a container how it ended, once."""
        watches = node.online and container.watched_by == node.generation
        if container.exited is not None and watches and container.told < node.generation:
            container.told = node.generation
            self._tell(node, container.exited)

    def _tell(self, node: SimulatedNode, event: inputs.Input) -> None:
        world = self._world
        world.later(NOTICED_MS, node, world.process, node, world.give, node, event)


def work_of(workload: Workload) -> int:
    """Return how many milliseconds of usage a simulated job needs."""
    name, amount = workload.command
    assert name == WORK
    return int(amount)
