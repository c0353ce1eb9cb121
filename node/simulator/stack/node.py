"""One whole node of a stack: assembled as in the daemon, on a folder that outlives it.

Real are all parts between the ports: core, driver, journal, outbox, intake, prober, executions,
transfers, results. Simulated are the ports: clock, network, sandbox.
Spec: specs/simulation.md#stack.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import trio

from node.config import Config
from node.daemon.assemble import Node, Ports, Sandbox, assemble
from node.daemon.effects import EffectTable
from node.network.host import Network
from node.network.interface import PeerEvents
from node.simulator.stack.clock import VirtualClock, VirtualMilliseconds
from node.simulator.stack.image import store_image
from node.simulator.stack.network import SharedNetwork, StackNetwork
from node.simulator.stack.sandbox import StackSandbox
from node.storage.journal import Journal, OutboxRow, open_journal
from protocol.core.core import Core
from protocol.machines import inputs
from protocol.machines.context import Policy
from protocol.machines.effects import Effect
from protocol.values.ids import Digest, JobId, PeerId
from protocol.wire.envelope import Signer
from protocol.wire.job import JobSpec


@dataclass(frozen=True, slots=True)
class Machine:
    """What a node runs on."""

    folder: Path
    signer: Signer
    policy: Policy
    clock: VirtualClock
    shared: SharedNetwork


class StackNode:
    """A machine, and the node on it: each `run` is one life."""

    def __init__(
        self, number: int, machine: Machine, witness: Callable[["StackNode", object], None]
    ) -> None:
        """Take the node's number, its machine, and who is told of each effect."""
        self.number = number
        self.policy = machine.policy
        self.node: Node
        """That of the present or last life."""
        self._machine = machine
        self._witness = witness
        self._time = VirtualMilliseconds(machine.clock)
        self._sandbox = StackSandbox(self._time)
        self._images: dict[int, Digest] = {}
        """Those that it has stored, by size."""
        self._life = trio.CancelScope()
        self._dead = trio.Event()

    @property
    def peer_id(self) -> PeerId:
        return self._machine.signer.peer_id

    @property
    def core(self) -> Core:
        return self.node.core

    async def run(self, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Live until cancelled, or until `go`. It has begun when all its parts run."""
        self._life, self._dead = trio.CancelScope(), trio.Event()
        try:
            with self._life:
                await self._run(task_status)
        finally:
            self._sandbox.lose_all()
            self._dead.set()

    async def go(self) -> None:
        """End this life without a word; return when nothing of it is left."""
        self._life.cancel()
        await self._dead.wait()

    async def reach(self, peer: PeerId) -> None:
        """Connect with a peer; PeerUnreachable if it is away."""
        await self.node.network.reach(peer)

    async def submit(self, jobs: Mapping[JobId, JobSpec]) -> None:
        """Submit a job, or the members of a gang, as node.service.jobs does; StorageFull."""
        stored = {}
        for job_id, spec in jobs.items():
            image = await self._image(spec.workload.image_bytes)
            stored[job_id] = replace(spec, workload=replace(spec.workload, image=image))
        held = await self.node.images.hold(stored)
        events = tuple(inputs.JobSubmitted(*each) for each in held.items())
        event = inputs.ArraySubmitted(events) if len(events) > 1 else events[0]
        await self.node.driver.put(event)

    async def _run(self, task_status: Any) -> None:
        machine = self._machine
        async with self._open_journal() as journal:
            ports = Ports(
                Config(data_dir=machine.folder), machine.signer, self._time, journal,
                Sandbox(self._sandbox, "it is simulated"), machine.policy, self._open_network,
                trio.Event(),
            )  # fmt: skip
            async with assemble(ports) as self.node, trio.open_nursery() as nursery:
                self.node.effects = cast("EffectTable", _Witnessed(self.node.effects, self._tell))
                await nursery.start(self.node.run)
                task_status.started()

    @asynccontextmanager
    async def _open_journal(self) -> AsyncIterator[Journal]:
        clock, path = self._machine.clock, self._machine.folder / "node.db"
        async with AsyncExitStack() as opened:
            with clock.held():  # A thread opens the file, which no journal tells.
                journal = await opened.enter_async_context(open_journal(path, self._time.now_ms))

            def is_busy() -> bool:
                return journal.is_busy

            clock.watched.append(is_busy)
            opened.callback(clock.watched.remove, is_busy)
            yield journal

    @asynccontextmanager
    async def _open_network(self, events: PeerEvents, _records: Any) -> AsyncIterator[Network]:
        async with trio.open_nursery() as nursery:
            network = StackNetwork(self.number, self._machine.shared, events, nursery)
            try:
                yield cast("Network", network)
            finally:
                network.close()
                nursery.cancel_scope.cancel()

    def _tell(self, effect: object) -> None:
        self._witness(self, effect)

    async def _image(self, size: int) -> Digest:
        """Return the image of a size, which is stored when it is first wanted."""
        found = self._images.get(size)
        if found is None:
            found = self._images[size] = await store_image(self.node.context.blobs, size)
        return found


class _Witnessed:
    """A node's table of effects; each is told before it is performed."""

    def __init__(self, table: EffectTable, tell: Callable[[object], None]) -> None:
        self._table = table
        self._tell = tell

    def perform(self, effect: Effect | OutboxRow) -> None:
        self._tell(effect)
        self._table.perform(effect)
