"""A network in memory, with virtual time: the same core as in the node, other ports.

All effects of the cores are performed here, through one heap of future events. Messages take time,
may be lost, duplicated or reordered; nodes may crash, also between a commit and the sending, and
restart from what they had saved. Spec: specs/core.md#driver.
"""

import heapq
import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Final

from protocol.core.core import Core, Saved
from protocol.core.intake import admit
from protocol.core.jobs import Ending, Job
from protocol.core.presence import record_of
from protocol.machines import effects, inputs, provider, requester
from protocol.machines.context import Context, Policy
from protocol.rules.capacity import Capacity
from protocol.rules.topics import topics_of
from protocol.values.errors import PeerFault, Stale
from protocol.values.ids import JobId, PeerId, digest_of
from protocol.wire.envelope import KeySigner, Signed
from protocol.wire.job import (
    ARRAY_ID_BYTES,
    JobSpec,
    Resources,
    Terms,
    Workload,
    gang_of,
    member_id,
)
from protocol.wire.messages import CapabilityRecord, Carrier, Prices
from protocol.wire.snapshot import from_snapshot, to_snapshot
from tests.simulated_node import Node
from tests.simulated_sandbox import SimulatedSandboxes
from tests.wording import of_event, of_message

NETWORK: Final = "test"
START_MS: Final = 1_800_000_000_000
TABLES: Final = {
    "job": Job, "award": requester.award.State, "requester-lease": requester.lease.State,
    "provider-lease": provider.lease.State,
}  # fmt: skip
RESEND_MS: Final = 600
LENDS_NOTHING: Final = Policy()


def provider_policy(cpu: int = 1000, cpus: int = 4, memory_mib: int = 4096, **more: Any) -> Policy:
    capacity = Capacity(cpus, memory_mib, 50_000)
    more = {"pause_memory_mib": memory_mib // 2, "audit_percent": 0} | more
    return Policy(True, capacity, Prices(cpu=cpu), driver="embedded", **more)


def job_spec(
    rate_max: int = 100_000, cpus: int = 1, checkpoint_ms: int = 0, **terms: Any
) -> JobSpec:
    """Return a job's spec; the job has checkpoints if it says how often they are taken."""
    wanted = Resources(cpus=cpus)
    workload = Workload(digest_of(b"image"), ("true",), resources=wanted, timeout_ms=600_000)
    if checkpoint_ms:
        workload = replace(workload, checkpoint="checkpoint", checkpoint_ms=checkpoint_ms)
    return JobSpec("test", workload, Terms(rate_max, **terms))


class SimulatedNetwork(SimulatedSandboxes):
    """Nodes, the network between them, and the clock."""

    def __init__(self, seed: int = 0, *, delay_ms: tuple[int, int] = (5, 5), loss: float = 0.0,
                 doubled: float = 0.0, job_ms: int = 2_000) -> None:  # fmt: skip
        self.random = random.Random(seed)
        self.delay_ms, self.loss, self.doubled, self.job_ms = delay_ms, loss, doubled, job_ms
        self.now_ms = START_MS
        self.nodes: dict[PeerId, Node] = {}
        self.log: list[tuple[int, str]] = []
        self.drop: Callable[[str, str, object], bool] = lambda sender, receiver, message: False
        self.crash_point: Callable[[Node, list[effects.Effect]], int | None] = lambda node, todo: (
            None
        )
        """The number of effects after which a node crashes; all its writes are on the disk."""
        self.prepare_fails: set[str] = set()
        self.round_trip_us: Callable[[str, str], int] = lambda one, other: 10_000
        """What a node measures to another, in microseconds; 0 if it cannot reach it."""
        self.serves_no_blobs: set[str] = set()
        """Requesters that serve no blobs and report no error."""
        self.exit_codes: dict[str, int] = {}
        self.saving_ms = 500
        self.checkpoints: dict[bytes, int] = {}
        self.stop_ms = 0
        """How long a container takes to stop."""
        self._heap: list[tuple[int, int, Callable[[], object]]] = []
        self._order = 0
        self._opened: dict[bytes, Signed[Any]] = {}

    # Actions of a test.

    def add(self, name: str, policy: Policy = LENDS_NOTHING) -> Node:
        signer = KeySigner(digest_of(name.encode()), NETWORK)
        node = Node(name, signer, policy, Core(signer, policy))
        self.nodes[node.peer_id] = node
        self._give(node, inputs.PolicyChanged(policy))
        return node

    def meet(self) -> None:
        """Introduce every node to every other."""
        for node in self.nodes.values():
            for other in self.nodes.values():
                if other is not node:
                    self._give(node, inputs.PeerConnected(other.peer_id))
        self.run(1_000)

    def submit(self, node: Node, spec: JobSpec | None = None) -> JobId:
        job_id = JobId(self.random.randbytes(16))
        self._give(node, inputs.JobSubmitted(job_id, spec or job_spec()))
        return job_id

    def submit_gang(self, node: Node, spec: JobSpec) -> list[JobId]:
        """Submit a gang; return its members by rank."""
        gang = self.random.randbytes(ARRAY_ID_BYTES)
        members = [
            inputs.JobSubmitted(member_id(gang, member.index), member)
            for member in gang_of(spec, gang)
        ]
        self._give(node, inputs.ArraySubmitted(tuple(members)))
        return [member.job_id for member in members]

    def cancel(self, node: Node, job_id: JobId) -> None:
        self._say(f"{node.name}: the user cancels")
        self._give(node, inputs.JobCancelled(job_id))

    def run(self, duration_ms: int) -> None:
        """Let time pass."""
        self.run_until(lambda: False, duration_ms)

    def run_until(self, condition: Callable[[], bool], limit_ms: int = 120_000) -> bool:
        """Let time pass until the condition holds; return whether it does."""
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

    def sleep(self, duration_ms: int) -> None:
        """Let time pass as for a suspended machine: nothing happens in between."""
        self.now_ms += duration_ms

    def ended(self, node: Node, job_id: JobId) -> bool:
        return node.alive and node.job(job_id).ending is not Ending.OPEN

    def crash(self, node: Node, *, machine: bool = False) -> None:
        """Kill a node; its containers continue unless the whole machine dies."""
        self._say(f"{node.name}: crashes")
        node.alive = False
        node.generation += 1
        node.in_memory.clear()
        node.probes.clear()
        if machine:
            node.containers.clear()
            return
        for other in self.nodes.values():  # The operating system closes its connections.
            if other is not node:
                self._later(0, other, inputs.PeerDisconnected(node.peer_id))

    def stop(self, node: Node, then: Callable[[], object] = lambda: None) -> None:
        """Stop a node as its owner would: it releases its leases and tells its peers."""
        self._give(node, inputs.StopRequested())
        self._leave(node, node.generation, then)

    def _leave(self, node: Node, generation: int, then: Callable[[], object]) -> None:
        """End a node that stops once its jobs have left."""
        if not node.alive or node.generation != generation:
            return
        states = node.core.provider.leases.values()
        if any(isinstance(state, provider.lease.Leaving) for state in states):
            self.after(100, lambda: self._leave(node, generation, then))
        else:
            self.crash(node)
            then()

    def restart(self, node: Node, behind_ms: int = 0) -> None:
        self._say(f"{node.name}: comes back")
        node.alive, node.behind_ms = True, behind_ms
        sequence = node.core.presence.sequence
        node.core = Core(node.signer, Policy())
        settled = tuple(
            (receipt.requester, receipt.usage_ms)
            if receipt.provider == node.peer_id else (receipt.provider, 0)
            for receipt in node.disk.receipts.values() if receipt.countersign
        )  # fmt: skip
        saved: dict[str, list[Any]] = {name: [] for name in TABLES}
        for (table, _), data in node.disk.saved.items():
            saved[table].append(from_snapshot(TABLES[table], data))
        core, now_ms = node.core, self.now_ms - behind_ms
        rows = list(node.disk.outbox)
        states = (tuple(saved[table]) for table in TABLES)
        first = core.recover(Saved(*states, sequence, settled), node.policy, now_ms)
        for lease_id in node.containers.keys() - core.provider.leases.keys():
            del node.containers[lease_id]  # Recovery removes containers without a lease.
        for row in rows:
            self._transmit(node, row)
        self._perform(node, first)
        for other in self.nodes.values():
            if other is not node:
                self._give(node, inputs.PeerConnected(other.peer_id))
                self._give(other, inputs.PeerConnected(node.peer_id))

    # The ports.

    def _give(self, node: Node, event: Any) -> None:
        if node.alive:
            self._perform(node, node.core.handle(event, self.now_ms - node.behind_ms))
            assert not node.core.illegal, "an honest node did what is illegal"

    def _perform(self, node: Node, wanted: Iterable[effects.Effect]) -> None:
        wanted = list(wanted)
        rows = [self._write(node, effect) for effect in wanted]
        crash_after = self.crash_point(node, wanted)
        for effect, row in list(zip(wanted, rows, strict=True))[:crash_after]:
            self._do(node, effect, row)
        if crash_after is not None:
            self.crash(node)

    def _write(self, node: Node, effect: effects.Effect) -> int:
        disk = node.disk
        match effect:
            case effects.Save(table, key, None):
                disk.saved.pop((table, key), None)
            case effects.Save(table, key, state):
                disk.saved[table, key] = to_snapshot(state)
            case effects.Report(job_id, event):
                disk.events.setdefault(job_id, []).append(event)
                self._say(f"{node.name}: {of_event(event, self.name_of)}")
            case effects.Settle(lease_id):
                disk.receipts[lease_id] = effect
            case effects.Accuse():
                disk.proofs.append(effect)
            case effects.Send(peer, envelope, until_ms) if until_ms:
                disk.rows += 1
                outbox = disk.outbox if effect.in_outbox else node.in_memory
                outbox[disk.rows] = (peer, envelope, until_ms)
                return disk.rows
        return 0

    def _do(self, node: Node, effect: effects.Effect, row: int) -> None:
        match effect:
            case effects.Send(peer, envelope, 0):
                self._deliver(node, peer, envelope, 0)
            case effects.Send():
                self._transmit(node, row)
            case effects.ProbePeer(peer, envelope, until_ms):
                self._probe(node, peer, envelope, until_ms)
            case effects.MeasureRoundTrips(lease_id, peers):
                took = tuple(self.round_trip_us(node.name, self.name_of(peer)) for peer in peers)
                self._later(30, node, inputs.RoundTripsMeasured(lease_id, took))
            case effects.Publish(topic, envelope):
                self._gossip(node, topic, envelope)
            case effects.Prepare(_, requester) if self.name_of(requester) in self.serves_no_blobs:
                pass
            case effects.Prepare(lease_id):
                failed = node.name in self.prepare_fails
                why = inputs.PrepareFailed(lease_id, "no image")
                self._later(20, node, why if failed else inputs.Prepared(lease_id))
            case effects.Launch():
                self._launch(node, effect)
            case effects.Extend(lease_id, budget_ms) if lease_id in node.containers:
                self._extend(node, lease_id, budget_ms)
            case effects.TakeCheckpoint(lease_id, _, mark):
                self._take_checkpoint(node, lease_id, mark)
            case effects.Terminate(lease_id):
                self.after(self.saving_ms, lambda: self._terminate(node, lease_id))
            case effects.FetchCheckpoint(_, lease_id, _, _, checkpoint):
                self._later(20, node, inputs.CheckpointFetched(lease_id, checkpoint.sequence))
            case effects.Kill(lease_id) if lease_id in node.containers:
                self.after(self.stop_ms, lambda: self._kill(node, lease_id))
            case effects.Drop(lease_id):
                node.containers.pop(lease_id, None)
            case effects.FetchOutputs(_, lease_id):
                self._later(20, node, inputs.OutputsFetched(lease_id))

    # The network.

    def _transmit(self, node: Node, row: int) -> None:
        """Send a row of the outbox until it is acknowledged or its deadline passes."""
        outbox = node.disk.outbox if row in node.disk.outbox else node.in_memory
        if row not in outbox or not node.alive:
            return
        peer, envelope, until_ms = outbox[row]
        if self.now_ms - node.behind_ms > until_ms:
            del outbox[row]
            return
        generation = node.generation
        self._deliver(node, peer, envelope, row)
        self.after(
            RESEND_MS, lambda: self._transmit(node, row) if node.generation == generation else None
        )

    def _deliver(self, node: Node, peer: PeerId, envelope: bytes, row: int) -> None:
        receiver = self.nodes.get(peer)
        if receiver is not None:
            for _ in range(1 + (self.random.random() < self.doubled)):
                if not self._loses(node, receiver, self._open(node, envelope, Carrier.STREAM)):
                    delay_ms = self.random.randint(*self.delay_ms)
                    self.after(delay_ms, lambda: self._arrive(node, receiver, envelope, row))

    def _arrive(self, sender: Node, receiver: Node, envelope: bytes, row: int) -> None:
        if not receiver.alive:
            return
        signed = self._open(sender, envelope, Carrier.STREAM)
        if not isinstance(signed.message, CapabilityRecord):
            told = of_message(signed.message, self.name_of)
            self._say(f"{sender.name} -> {receiver.name}: {told}")
        self._give(receiver, signed)
        # The receiver acknowledges only what it has committed.
        lost = self.random.random() < self.loss or self.drop(receiver.name, sender.name, None)
        if receiver.alive and sender.alive and not lost:
            sender.disk.outbox.pop(row, None)
            sender.in_memory.pop(row, None)
            if row in sender.probes:
                self._later(0, sender, inputs.PeerAnswered(sender.probes.pop(row)))

    def _probe(self, node: Node, peer: PeerId, envelope: bytes, until_ms: int) -> None:
        """Ask until an answer comes or the deadline passes."""
        node.disk.rows += 1
        row = node.disk.rows
        node.in_memory[row] = (peer, envelope, until_ms)
        node.probes[row] = peer
        self._transmit(node, row)

    def _gossip(self, node: Node, topic: str, envelope: bytes) -> None:
        for other in self.nodes.values():
            record = record_of(Context(self.now_ms, other.signer, other.policy), 1)
            if other is node or topic not in topics_of(record):
                continue
            signed = self._open(node, envelope, Carrier.GOSSIP)
            if not self._loses(node, other, signed):
                delay_ms = self.random.randint(*self.delay_ms)
                self.after(delay_ms, lambda to=other, what=signed: self._give(to, what))

    def _loses(self, node: Node, receiver: Node, signed: Signed[Any]) -> bool:
        lost = self.random.random() < self.loss
        return lost or self.drop(node.name, receiver.name, signed.message)

    def _open(self, sender: Node, envelope: bytes, carrier: Carrier) -> Signed[Any]:
        """Admit an envelope, once only, since that costs most of the test's time."""
        if envelope not in self._opened:
            network = sender.signer.network_id
            try:
                signed = admit(envelope, sender.peer_id, carrier, network, self.now_ms)
            except (PeerFault, Stale) as error:
                raise AssertionError(f"an honest message was refused: {error}") from error
            self._opened[envelope] = signed
        return self._opened[envelope]

    # Time and the transcript.

    def after(self, delay_ms: int, action: Callable[[], object]) -> None:
        self._order += 1
        heapq.heappush(self._heap, (self.now_ms + delay_ms, self._order, action))

    def name_of(self, peer: PeerId) -> str:
        return self.nodes[peer].name if peer in self.nodes else "nobody"

    def _say(self, line: str) -> None:
        self.log.append((self.now_ms - START_MS, line))

    def _later(self, delay_ms: int, node: Node, event: Any) -> None:
        generation = node.generation
        self.after(
            delay_ms, lambda: self._give(node, event) if node.generation == generation else None
        )

    def _deadlines(self) -> list[int]:
        found = [node.deadline_ms for node in self.nodes.values()]
        return [deadline for deadline in found if deadline is not None]

    def _wake(self) -> None:
        for node in self.nodes.values():
            if node.deadline_ms is not None and node.deadline_ms <= self.now_ms:
                self._give(node, inputs.DeadlineReached())
                assert self.now_ms < (node.deadline_ms or self.now_ms + 1), "never sleeps"
