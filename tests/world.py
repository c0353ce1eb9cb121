"""A network in memory, with virtual time: the same core as in the node, other ports.

Everything that a core asks for is done here, in one heap of things to come. Messages take time, may
be lost, doubled or reordered; nodes may crash and come back with what they had written down.
"""

import heapq
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from protocol.core.core import Core
from protocol.core.intake import admit
from protocol.core.jobs import Job
from protocol.machines import auction, effects, inputs, lease, serving
from protocol.machines.context import Policy
from protocol.machines.events import JobEvent
from protocol.rules.capacity import Capacity
from protocol.rules.topics import topics_of
from protocol.core.presence import record_of
from protocol.machines.context import Context
from protocol.values.errors import PeerFault, Stale
from protocol.values.ids import JobId, LeaseId, PeerId, digest_of
from protocol.wire.envelope import Signer, open_envelope
from protocol.wire.job import BlobRef, JobSpec, Terms, Workload
from protocol.wire.messages import Carrier, Prices
from protocol.wire.snapshot import from_snapshot, to_snapshot

NETWORK = "test"
START_MS = 1_800_000_000_000
TABLES = {"job": Job, "auction": auction.State, "lease": lease.State, "serving": serving.State}


def provider_policy(cpu: int = 1000, cpus: int = 4, memory_mib: int = 4096, **more: Any) -> Policy:
    return Policy(True, Capacity(cpus, memory_mib, 50_000), Prices(cpu=cpu), driver="embedded", **more)


def job_spec(rate_max: int = 100_000, **terms: Any) -> JobSpec:
    workload = Workload(digest_of(b"image"), ("true",), timeout_ms=600_000)
    return JobSpec("test", workload, Terms(rate_max, **terms))


@dataclass
class Disk:
    """What a node has written down."""

    saved: dict[tuple[str, bytes], bytes] = field(default_factory=dict)
    outbox: dict[int, tuple[PeerId, bytes, int]] = field(default_factory=dict)
    events: dict[JobId, list[tuple[int, JobEvent]]] = field(default_factory=dict)
    receipts: dict[LeaseId, effects.Settle] = field(default_factory=dict)
    rows: int = 0


@dataclass
class Node:
    name: str
    signer: Signer
    policy: Policy
    core: Core
    disk: Disk = field(default_factory=Disk)
    alive: bool = True
    generation: int = 0
    running: dict[LeaseId, int] = field(default_factory=dict)
    launched: list[LeaseId] = field(default_factory=list)

    @property
    def peer_id(self) -> PeerId:
        return self.signer.peer_id

    def events(self, job_id: JobId) -> list[JobEvent]:
        return [event for _, event in self.disk.events.get(job_id, [])]


class World:
    """Nodes, the network between them, and the clock."""

    def __init__(self, seed: int = 0, *, delay_ms: tuple[int, int] = (5, 5), loss: float = 0.0,
                 doubled: float = 0.0, job_ms: int = 2_000) -> None:
        self.random = random.Random(seed)
        self.delay_ms, self.loss, self.doubled, self.job_ms = delay_ms, loss, doubled, job_ms
        self.now_ms = START_MS
        self.nodes: dict[PeerId, Node] = {}
        self.log: list[str] = []
        self.drop: Callable[[str, str, object], bool] = lambda sender, receiver, message: False
        self.prepare_fails: set[str] = set()
        self.exit_codes: dict[LeaseId, int] = {}
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._order = 0
        self._in_flight: set[tuple[PeerId, int]] = set()

    # What a test does.

    def add(self, name: str, policy: Policy = Policy()) -> Node:
        signer = Signer(digest_of(name.encode()), NETWORK)
        node = Node(name, signer, policy, Core(signer, policy))
        self.nodes[node.peer_id] = node
        self.perform(node, node.core.handle(inputs.PolicyChanged(policy), self.now_ms))
        return node

    def meet(self) -> None:
        """Let every node know every other."""
        for node in self.nodes.values():
            for other in self.nodes.values():
                if other is not node:
                    self.give(node, inputs.PeerConnected(other.peer_id))
        self.run(1_000)

    def submit(self, node: Node, spec: JobSpec | None = None) -> JobId:
        job_id = JobId(self.random.randbytes(16))
        self.give(node, inputs.JobSubmitted(job_id, spec or job_spec()))
        return job_id

    def run(self, duration_ms: int) -> None:
        """Let time pass."""
        self.run_until(lambda: False, duration_ms)

    def run_until(self, condition: Callable[[], bool], limit_ms: int = 120_000) -> bool:
        end_ms = self.now_ms + limit_ms
        while not condition():
            at_ms = min([self._heap[0][0] if self._heap else end_ms, *self._deadlines()])
            if at_ms >= end_ms:
                self.now_ms = end_ms
                return condition()
            self.now_ms = max(self.now_ms, at_ms)
            if self._heap and self._heap[0][0] <= self.now_ms:
                heapq.heappop(self._heap)[2]()
            else:
                self._wake()
        return True

    def ended(self, node: Node, job_id: JobId) -> bool:
        return job_id not in node.core.jobs

    def crash(self, node: Node, *, containers: bool = False) -> None:
        """Kill a node; its containers go on unless the whole machine dies."""
        node.alive = False
        node.generation += 1
        if containers:
            node.running.clear()

    def restart(self, node: Node) -> None:
        node.alive = True
        node.core = Core(node.signer, node.policy)
        saved: dict[str, list[Any]] = {name: [] for name in TABLES}
        for (table, _), data in node.disk.saved.items():
            saved[table].append(from_snapshot(TABLES[table], data))
        core, now_ms = node.core, self.now_ms
        self.perform(node, core.handle(inputs.PolicyChanged(node.policy), now_ms))
        self.perform(node, core.market.recover(
            saved["serving"], Context(now_ms, node.signer, node.policy)))
        self.perform(node, core.recover(saved["job"], saved["auction"], saved["lease"], now_ms))
        for row in list(node.disk.outbox):
            self._transmit(node, row)

    # What the ports do.

    def give(self, node: Node, event: Any) -> None:
        if node.alive:
            self.perform(node, node.core.handle(event, self.now_ms))

    def perform(self, node: Node, wanted: Iterable[effects.Effect]) -> None:
        wanted = list(wanted)
        rows = [self._write(node, effect) for effect in wanted]
        for effect, row in zip(wanted, rows, strict=True):
            self._do(node, effect, row)

    def _write(self, node: Node, effect: effects.Effect) -> int:
        disk = node.disk
        match effect:
            case effects.Save(table, key, None):
                disk.saved.pop((table, key), None)
            case effects.Save(table, key, state):
                disk.saved[table, key] = to_snapshot(state)
            case effects.Report(job_id, event):
                disk.events.setdefault(job_id, []).append((self.now_ms, event))
                self.log.append(f"{node.name}: {type(event).__name__}")
            case effects.Settle(lease_id):
                disk.receipts[lease_id] = effect
            case effects.Send(peer, envelope, until_ms):
                disk.rows += 1
                if until_ms:
                    disk.outbox[disk.rows] = (peer, envelope, until_ms)
                return disk.rows
        return 0

    def _do(self, node: Node, effect: effects.Effect, row: int) -> None:
        match effect:
            case effects.Send(peer, envelope, 0):
                self._deliver(node, peer, envelope, None)
            case effects.Send():
                self._transmit(node, row)
            case effects.Publish(topic, envelope):
                self._gossip(node, topic, envelope)
            case effects.Prepare(lease_id, requester, _):
                failed = node.name in self.prepare_fails
                event = (inputs.PrepareFailed(lease_id, "no image") if failed
                         else inputs.Prepared(lease_id))
                self._later(20, node, event)
            case effects.Launch(lease_id):
                self._launch(node, lease_id)
            case effects.Kill(lease_id) | effects.Drop(lease_id):
                killed = node.running.pop(lease_id, None)
                if killed is not None and isinstance(effect, effects.Kill):
                    self._exit(node, lease_id, killed, 137, "killed")
            case effects.FetchOutputs(_, lease_id):
                self._later(20, node, inputs.OutputsFetched(lease_id))

    def _launch(self, node: Node, lease_id: LeaseId) -> None:
        if lease_id not in node.launched:
            node.launched.append(lease_id)
            node.running[lease_id] = self.now_ms
        elif lease_id not in node.running:
            self._later(1, node, inputs.ContainerFailed(lease_id, "the container is gone"))
            return
        started_ms = node.running[lease_id]
        self._later(1, node, inputs.ContainerStarted(lease_id))
        left_ms = max(2, started_ms + self.job_ms - self.now_ms)
        self.after(left_ms, lambda: self._finish(node, lease_id))

    def _finish(self, node: Node, lease_id: LeaseId) -> None:
        if lease_id in node.running and node.alive:
            started_ms = node.running.pop(lease_id)
            self._exit(node, lease_id, started_ms, self.exit_codes.get(lease_id, 0), "exited")

    def _exit(self, node: Node, lease_id: LeaseId, started_ms: int, code: int, why: str) -> None:
        outputs = BlobRef(digest_of(lease_id), 64)
        exited = inputs.ContainerExited(lease_id, code, why, "", self.now_ms - started_ms, outputs)
        self.give(node, exited)

    def _transmit(self, node: Node, row: int) -> None:
        """Send a row of the outbox until it is acknowledged or its time is over."""
        if row not in node.disk.outbox or not node.alive:
            return
        peer, envelope, until_ms = node.disk.outbox[row]
        if self.now_ms > until_ms:
            del node.disk.outbox[row]
            return
        generation = node.generation
        self._deliver(node, peer, envelope, lambda: node.disk.outbox.pop(row, None))
        self.after(600, lambda: self._transmit(node, row) if node.generation == generation else None)

    def _deliver(self, node: Node, peer: PeerId, envelope: bytes,
                 acknowledge: Callable[[], object] | None) -> None:
        receiver = self.nodes.get(peer)
        if receiver is None:
            return
        message = open_envelope(envelope, node.signer.network_id, node.peer_id).message
        if self.drop(node.name, receiver.name, message):
            return
        for _ in range(1 + (self.random.random() < self.doubled)):
            if self.random.random() < self.loss:
                continue
            self.after(self.random.randint(*self.delay_ms), lambda: self._arrive(
                node, receiver, envelope, acknowledge))

    def _arrive(self, sender: Node, receiver: Node, envelope: bytes,
                acknowledge: Callable[[], object] | None) -> None:
        if not receiver.alive:
            return
        try:
            signed = admit(envelope, sender.peer_id, Carrier.STREAM, sender.signer.network_id,
                           self.now_ms)
        except (PeerFault, Stale) as error:
            raise AssertionError(f"an honest message was refused: {error}") from error
        self.log.append(f"{sender.name} -> {receiver.name}: {type(signed.message).__name__}")
        self.give(receiver, signed)
        if acknowledge is not None and self.random.random() >= self.loss:
            acknowledge()

    def _gossip(self, node: Node, topic: str, envelope: bytes) -> None:
        for other in self.nodes.values():
            record = record_of(Context(self.now_ms, other.signer, other.policy), 1)
            if other is node or topic not in topics_of(record):
                continue
            signed = open_envelope(envelope, node.signer.network_id, node.peer_id)
            if self.random.random() < self.loss or self.drop(node.name, other.name, signed.message):
                continue
            self.after(self.random.randint(*self.delay_ms),
                       lambda other=other, signed=signed: self.give(other, signed))

    # Time.

    def after(self, delay_ms: int, action: Callable[[], object]) -> None:
        self._order += 1
        heapq.heappush(self._heap, (self.now_ms + delay_ms, self._order, action))

    def _later(self, delay_ms: int, node: Node, event: Any) -> None:
        generation = node.generation
        self.after(delay_ms, lambda: self.give(node, event)
                   if node.generation == generation else None)

    def _deadlines(self) -> list[int]:
        found = [node.core.next_deadline_ms() for node in self.nodes.values() if node.alive]
        return [deadline for deadline in found if deadline is not None]

    def _wake(self) -> None:
        for node in self.nodes.values():
            deadline_ms = node.core.next_deadline_ms() if node.alive else None
            if deadline_ms is not None and deadline_ms <= self.now_ms:
                self.give(node, inputs.DeadlineReached())
