"""Whole daemons in one process: all parts are real but libp2p and the containers.

A machine may be ended at any point, as by a crash, and started again on the same folder.
Spec: specs/core.md#daemon.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

from node.daemon.effects import NodeEffects, Performers
from node.daemon.recovery import recall
from node.driver.clock import Clock
from node.driver.driver import Driver
from node.messaging.outbox_sender import OutboxSender
from node.messaging.receiver import Receiver
from node.messaging.undelivered import Undelivered
from node.network.interface import Peer
from node.provider.executions import Executions
from node.provider.log_server import PROTOCOL as LOG_PROTOCOL
from node.provider.log_server import LogServer
from node.requester.results import Results
from node.sandbox.driver import Exit
from node.service.images import ImageService
from node.service.jobs import JobService
from node.service.node import NodeService
from protocol.core.core import Core
from protocol.machines.context import Policy
from protocol.machines.inputs import PeerConnected
from protocol.values.errors import PeerFault, PeerUnreachable
from protocol.values.ids import PeerId
from protocol.wire.envelope import Signer
from tests.node.fixtures import Line, ObedientSandbox, Place, Wires, spec_of, until


class FakeNetwork:
    """Carries what one machine says to the others that run, at once and whole."""

    def __init__(self, machine: "Machine", others: dict[PeerId, "Machine"], wires: Wires) -> None:
        self.peer_id = machine.signer.peer_id
        self.is_known = machine.core.knows
        self.others = others
        self.open_stream: Callable[[PeerId, str], Awaitable[Line]] = wires.of(self.peer_id)
        self.published: list[tuple[str, bytes]] = []
        self.records: list[bytes] = []
        self.puts_fail = 0
        self.learnt: list[tuple[PeerId, tuple[str, ...]]] = []

    def addresses(self) -> tuple[str, ...]:
        return (f"/ip4/127.0.0.1/tcp/1/p2p/{self.peer_id}",)

    def peers(self) -> tuple[Peer, ...]:
        return tuple(Peer(peer, "/ip4/127.0.0.1/tcp/2", "in", 5) for peer in self._reachable())

    def source_of(self, peer: PeerId) -> str:
        return f"home of {peer}"

    async def request(self, peer: PeerId, data: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        if peer not in self._reachable():
            raise PeerUnreachable("away")
        try:
            return await self.others[peer].door.answer(self.peer_id, data)
        except PeerFault as fault:
            raise AssertionError(f"an honest machine was blamed: {fault}") from fault

    async def publish(self, topic: str, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.published.append((topic, data))
        for peer in self._reachable():
            self.others[peer].door.judge(self.peer_id, data)

    async def reach(self, peer: PeerId) -> None:
        await trio.lowlevel.checkpoint()
        if peer not in self._reachable():
            raise PeerUnreachable("away")

    def learn(self, peer: PeerId, addresses: tuple[str, ...]) -> None:
        self.learnt.append((peer, addresses))

    async def put_record(self, data: bytes) -> bool:
        await trio.lowlevel.checkpoint()
        self.records.append(data)
        self.puts_fail -= 1
        return self.puts_fail < 0

    async def get_record(self, peer: PeerId) -> bytes | None:
        await trio.lowlevel.checkpoint()
        found = self.others[peer].network.records
        return found[-1] if found else None

    def _reachable(self) -> list[PeerId]:
        return [p for p, other in self.others.items() if p != self.peer_id and other.alive]


class Machine:
    """One daemon; `run` is one life of it."""

    def __init__(self, signer: Signer, place: Place, policy: Policy) -> None:
        self.signer = signer
        self.place = place
        self.policy = policy
        self.alive = False
        self.life = trio.CancelScope()
        self.jobs: JobService
        self.images: ImageService
        self.node: NodeService
        self.door: Receiver
        self.network: FakeNetwork
        self.core: Core
        self.driver: Driver
        self.executions: Executions
        self.postman: OutboxSender
        self.ports: NodeEffects
        self.results: Results

    async def run(self, town: "Town", task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        clock, place = Clock(), self.place
        self.core = Core(self.signer, Policy())
        self.driver = Driver(self.core, place.journal, clock)
        self.network = FakeNetwork(self, town.machines, town.wires)
        self.door = Receiver(self.driver, self.signer, clock, self.network)
        self.executions = Executions(place.shop, self.driver)
        self.results = Results(
            place.folder / "jobs", place.blobs, place.shop.fetcher, self.network.open_stream,
            self.driver,
        )  # fmt: skip
        undelivered = Undelivered(self.signer, clock)
        self.postman = OutboxSender(self.network.request, place.journal, clock, undelivered.missed)
        place.blobs._pins.clear()  # They lived in the memory of the life before.
        past = await recall(place.journal, place.shop, clock.now_ms())
        self.images = ImageService(place.blobs, place.images, place.folder)
        self.jobs = JobService(self.driver, place.journal, clock, self.images, self.results)
        self.jobs.recover(past.saved.jobs, past.phases, past.counts)
        self.node = NodeService(
            self.core, self.network, clock, self.jobs, undelivered, place.folder, trio.Event(),
            clock.now_ms(), await place.journal.totals(), "obedient", "it works",
        )  # fmt: skip
        performers = Performers(
            self.network, place.journal, self.postman, self.executions, self.results, self.jobs,
            self.node,
        )  # fmt: skip
        self.ports = NodeEffects(performers)
        first = self.core.recover(past.saved, self.policy, clock.now_ms())
        serve = LogServer(self.executions.log_of).serve
        town.wires.handlers[self.signer.peer_id, LOG_PROTOCOL] = serve
        self.life = trio.CancelScope()
        with self.life:
            async with trio.open_nursery() as nursery:
                await nursery.start(self.executions.run)
                await nursery.start(self.results.run)
                await nursery.start(self.postman.run, past.outbox)
                nursery.start_soon(self.driver.run, self.ports, first)
                nursery.start_soon(self.ports.publish)
                nursery.start_soon(self.ports.reach)
                nursery.start_soon(self.ports.advertise)
                nursery.start_soon(self.ports.count)
                self.alive = True
                town.introduce(self)
                task_status.started()
        self.alive = False

    async def crash(self) -> None:
        """End this life without a word."""
        self.life.cancel()
        await until(lambda: not self.alive, "the machine to die")


class Town:
    """Machines that know each other."""

    def __init__(self, nursery: trio.Nursery, wires: Wires) -> None:
        self.machines: dict[PeerId, Machine] = {}
        self.wires = wires
        self.nursery = nursery

    async def start(self, machine: Machine) -> None:
        self.machines[machine.signer.peer_id] = machine
        await self.nursery.start(machine.run, self)

    def introduce(self, machine: Machine) -> None:
        for other in self.machines.values():
            if other is not machine and other.alive:
                other.driver.give(PeerConnected(machine.signer.peer_id))
                other.postman.nudge(machine.signer.peer_id)
                machine.driver.give(PeerConnected(other.signer.peer_id))

    async def acquainted(self) -> None:
        """Wait until every machine has the records of all others."""
        count = len(self.machines) - 1
        for machine in self.machines.values():
            await until(lambda m=machine: len(m.core.directory.listings(0)) == count, "records")


@asynccontextmanager
async def open_town(wires: Wires, *machines: Machine) -> AsyncIterator[Town]:
    async with trio.open_nursery() as nursery:
        town = Town(nursery, wires)
        for machine in machines:
            await town.start(machine)
        await town.acquainted()
        yield town
        nursery.cancel_scope.cancel()


class Pair:
    """A requester and a provider that know each other."""

    def __init__(self, town: Town, ada: Machine, bea: Machine) -> None:
        self.town, self.ada, self.bea = town, ada, bea

    @property
    def jobs(self) -> JobService:
        """What the requester's API asks of its jobs."""
        return self.ada.jobs

    @property
    def sandbox(self) -> ObedientSandbox:
        return self.bea.place.sandbox

    async def submit(self, *inputs: tuple[str, bytes], **changes: Any) -> str:
        workload = await self.ada.place.workload(*inputs)
        return (await self.jobs.submit(spec_of(workload, **changes))).id

    async def phase(self, job: str, *phases: str) -> Any:
        """Wait until a job is in one of these phases."""
        with trio.fail_after(15):
            while (view := await self.jobs.get(job)).phase not in phases:  # noqa: ASYNC110
                await trio.sleep(0.005)
        return view

    async def running(self, **changes: Any) -> str:
        job = await self.submit(**changes)
        await self.phase(job, "running")
        return job

    async def box(self) -> Any:
        """Return the folder of the one container that runs."""
        boxes = self.sandbox.boxes
        return await until(lambda: next((f for f in boxes if not boxes[f].ended.is_set()), None))

    async def finish(self, job: str, code: int = 0, **files: bytes) -> Any:
        self.sandbox.finish(await self.box(), Exit(code, "exited", "", 1), **files)
        return await self.phase(job, "done")
