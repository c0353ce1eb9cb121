"""A network in memory, with virtual time, for tests: that of the simulator, with faults.

Messages take time, may be lost, duplicated or reordered; nodes have names, and may crash, also
between a commit and the sending, and restart from what they had saved, as bytes. It keeps a log of
what was said. Spec: specs/core.md#driver.
"""

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar, Final

from node.simulator.engine import TICKS_PER_MS
from node.simulator.network import START_MS
from node.simulator.network import SimulatedNetwork as Network
from protocol.core.core import Core
from protocol.core.jobs import Ending
from protocol.core.presence import record_of
from protocol.machines import effects, inputs, provider
from protocol.machines.context import Context, Policy
from protocol.machines.events import JobEvent
from protocol.rules.capacity import Capacity
from protocol.rules.topics import topics_of
from protocol.values.ids import JobId, PeerId, digest_of
from protocol.wire.envelope import Signed
from protocol.wire.job import (
    ARRAY_ID_BYTES,
    JobSpec,
    Resources,
    Terms,
    Workload,
    gang_of,
    member_id,
)
from protocol.wire.messages import Carrier, Prices
from tests.simulated_node import Node, RecordingDisk, SnapshotDisk
from tests.simulated_parts import (
    NETWORK,
    NamedKeys,
    RandomPaths,
    ToldContainers,
    UnreliableOutboxes,
    UnreliableTransfers,
)
from tests.wording import of_event

LENDS_NOTHING: Final = Policy()
__all__ = ["LENDS_NOTHING", "NETWORK", "START_MS", "SimulatedNetwork", "job_spec",
           "provider_policy"]  # fmt: skip


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


class SimulatedNetwork(Network):
    """Nodes, the network between them, and the clock."""

    containers_type = ToldContainers
    outboxes_type = UnreliableOutboxes
    transfers_type = UnreliableTransfers
    paths_type: ClassVar[type[RandomPaths]] = RandomPaths
    keys_type: ClassVar[type[NamedKeys]] = NamedKeys
    disks_type: ClassVar[type[RecordingDisk]] = SnapshotDisk
    nodes: dict[int, Node]
    identities: NamedKeys

    def __init__(self, seed: int = 0, *, delay_ms: tuple[int, int] = (5, 5), loss: float = 0.0,
                 doubled: float = 0.0, job_ms: int = 2_000) -> None:  # fmt: skip
        super().__init__(self.keys_type(self), self.paths_type(self), lambda number: None)
        self.gossip = self
        self.witnesses.append(self._note)
        self.random = random.Random(seed)
        self.delay_ms, self.loss, self.doubled, self.job_ms = delay_ms, loss, doubled, job_ms
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
        self.stop_ms = 0
        """How long a container takes to stop."""
        self._topics: dict[int, frozenset[str]] = {}

    # Actions of a test.

    def add(self, name: str, policy: Policy = LENDS_NOTHING) -> Node:
        core, number = Core(self.identities.add(name), policy), len(self.nodes)
        node = self.nodes[number] = Node(number, policy, core, self.disks_type(), name=name)
        self.give(node, inputs.PolicyChanged(policy))
        return node

    def meet(self) -> None:
        """Introduce every node to every other."""
        for node in self.nodes.values():
            for other in self.nodes.values():
                if other is not node:
                    self.give(node, inputs.PeerConnected(other.peer_id))
        self.run(1_000)

    def submit(self, node: Node, spec: JobSpec | None = None) -> JobId:  # type: ignore[override]
        job_id = JobId(self.random.randbytes(16))
        super().submit(node, inputs.JobSubmitted(job_id, spec or job_spec()))
        return job_id

    def submit_gang(self, node: Node, spec: JobSpec) -> list[JobId]:
        """Submit a gang; return its members by rank."""
        gang = self.random.randbytes(ARRAY_ID_BYTES)
        members = [
            inputs.JobSubmitted(member_id(gang, member.index), member)
            for member in gang_of(spec, gang)
        ]
        super().submit(node, inputs.ArraySubmitted(tuple(members)))
        return [member.job_id for member in members]

    def cancel(self, node: Node, job_id: JobId) -> None:
        self.say(f"{node.name}: the user cancels")
        self.give(node, inputs.JobCancelled(job_id))

    def run(self, duration_ms: int) -> None:
        """Let time pass."""
        self.engine.run(self.engine.now + duration_ms * TICKS_PER_MS)

    def run_until(self, condition: Callable[[], bool], limit_ms: int = 120_000) -> bool:
        """Let time pass until the condition holds; return whether it does."""
        return self.engine.run_until(condition, self.engine.now + limit_ms * TICKS_PER_MS)

    def sleep(self, duration_ms: int) -> None:
        """Let time pass as for a suspended machine: nothing happens in between."""
        self.engine.skip(duration_ms * TICKS_PER_MS)

    def ended(self, node: Node, job_id: JobId) -> bool:
        return node.online and node.job(job_id).ending is not Ending.OPEN

    def crash(self, node: Node, *, machine: bool = False) -> None:
        """Kill a node; its containers continue unless the whole machine dies."""
        self.say(f"{node.name}: crashes")
        self.stop_daemon(node)
        if machine:
            node.containers.clear()
            return
        for other in self.nodes.values():  # The operating system closes its connections.
            if other is not node:
                self.later(0, other, self.give, other, inputs.PeerDisconnected(node.peer_id))

    def stop(self, node: Node, then: Callable[[], object] = lambda: None) -> None:
        """Stop a node as its owner would: it releases its leases and tells its peers."""
        self.give(node, inputs.StopRequested())
        self._leave(node, node.generation, then)

    def _leave(self, node: Node, generation: int, then: Callable[[], object]) -> None:
        """End a node that stops once its jobs have left."""
        if not node.online or node.generation != generation:
            return
        states = node.core.provider.leases.values()
        if any(isinstance(state, provider.lease.Leaving) for state in states):
            self.after(100, self._leave, node, generation, then)
        else:
            self.crash(node)
            then()

    def restart(self, node: Node, behind_ms: int = 0) -> None:
        self.say(f"{node.name}: comes back")
        if node.online:
            self.stop_daemon(node)
        node.behind_ms = behind_ms
        self.come_back(node, Core(node.signer, Policy()))
        for other in self.nodes.values():
            if other is not node:
                self.give(node, inputs.PeerConnected(other.peer_id))
                self.give(other, inputs.PeerConnected(node.peer_id))

    # What happens otherwise than in the simulator.

    def _do_all(self, node: Node, wanted: list[effects.Effect]) -> None:
        """Take a step; crash within it if the test wants that."""
        assert not node.core.illegal, "an honest node did what is illegal"
        rows = [self._write(node, effect) for effect in wanted]
        crash_after = self.crash_point(node, wanted)
        for effect, row in list(zip(wanted, rows, strict=True))[:crash_after]:
            self._do(node, effect, row)
        if crash_after is None:
            self._arm(node)
        else:
            self.crash(node)

    def _settle(self, node: Node, effect: effects.Settle) -> None:
        node.disk.receipts[effect.lease_id] = effect
        super()._settle(node, effect)

    def _accuse(self, node: Node, effect: effects.Accuse) -> None:
        node.disk.proofs.append(effect)
        super()._accuse(node, effect)

    def publish(self, author: Node, topic: str, envelope: bytes) -> None:
        """Let all hear an announcement that have subscribed to its topic."""
        signed = self.identities.open(envelope, author.peer_id, Carrier.GOSSIP)
        for other in self.nodes.values():
            if other is not author and self._subscribes(other, topic):
                for delay_ms in self.copies(author, other, signed):
                    self.after(delay_ms, self.hear_gossip, other, signed)

    def copies(self, author: Node, receiver: Node, signed: Signed[Any]) -> tuple[int, ...]:
        """Return after how many milliseconds each copy of an announcement arrives."""
        lost = self.loses(author, receiver, signed.message)
        return () if lost else (self.random.randint(*self.delay_ms),)

    def hear_gossip(self, node: Node, signed: Signed[Any]) -> None:
        self.give(node, signed)

    def loses(self, sender: Node, receiver: Node, message: object) -> bool:
        """Say whether a message is lost; None is an acknowledgement."""
        lost = self.random.random() < self.loss
        return lost or self.drop(sender.name, receiver.name, message)

    def _subscribes(self, node: Node, topic: str) -> bool:
        known = self._topics.get(node.number)
        if known is None:
            record = record_of(Context(self.now_ms, node.signer, node.policy), 1)
            known = self._topics[node.number] = frozenset(topics_of(record))
        return topic in known

    # The transcript.

    def name_of(self, peer: PeerId) -> str:
        node = self.peer(peer)
        return node.name if node else "nobody"

    def say(self, line: str) -> None:
        self.log.append((self.now_ms - START_MS, line))

    def _note(self, node: Node, job_id: JobId, event: JobEvent) -> None:
        node.disk.events.setdefault(job_id, []).append(event)
        self.say(f"{node.name}: {of_event(event, self.name_of)}")
