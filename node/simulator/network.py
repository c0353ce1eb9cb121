"""A network of simulated nodes: performs what their cores want, in virtual time.

The cores are the node's own. Simulated are the connections between them, their disks, transfers
and containers. A step of a core is atomic: a node goes between two steps, never within one.
(`scripts/faults` breaks nodes within steps.)

Spec: specs/simulation.md#nodes.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from node.simulator.containers import Containers
from node.simulator.digest import Digest
from node.simulator.engine import TICKS_PER_MS, Engine
from node.simulator.identities import Identities
from node.simulator.node import NEVER_MS, SimulatedNode
from protocol.core.core import Core
from protocol.machines import effects, inputs
from protocol.machines.effects import Effect
from protocol.machines.events import JobEvent
from protocol.values.ids import JobId, PeerId
from protocol.wire.envelope import Signed
from protocol.wire.messages import NOT_MEASURED, NUMBER_OF

START_MS: Final = 1_800_000_000_000
"""The time at tick 0."""
LOST: Final = -1
RESEND_MS: Final = 600
"""How long a sender waits before it sends a message again that did not arrive."""
RESEND_MS_MAX: Final = 20_000
TRANSFER_RETRY_MS: Final = 2_000
TRANSFER_TRIES: Final = 300
"""How often a transfer from a node that is away is tried before it is given up."""
DEADLINE, SUBMISSION = 254, 255
"""Kinds of events in the digest, besides the numbers of messages."""


class Links(Protocol):
    """How long what one node sends another takes."""

    def delay(self, sender: int, receiver: int) -> int:
        """Return the ticks that one message takes; LOST if it does not arrive."""
        ...

    def transfer(self, sender: int, receiver: int, size: int) -> int:
        """Return the ticks that so many bytes take."""
        ...

    def round_trip_us(self, one: int, other: int) -> int:
        """Return the usual round trip between two nodes, in microseconds."""
        ...


class Gossip(Protocol):
    """Brings announcements to the nodes that may want them."""

    def publish(self, author: SimulatedNode, topic: str, envelope: bytes) -> None: ...


Make = Callable[[int], SimulatedNode | None]
Witness = Callable[[SimulatedNode, JobId, JobEvent], None]


class Network:
    """The nodes that have a core, and what happens between them."""

    def __init__(self, identities: Identities, links: Links, make: Make) -> None:
        """Take how nodes are named and linked, and what makes a node when it is first needed."""
        self.engine = Engine()
        self.digest = Digest()
        self.identities = identities
        self.links = links
        self.gossip: Gossip | None = None
        self.containers = Containers(self)
        self.witnesses: list[Witness] = []
        """Are told of each event of a job."""
        self.settled: list[Callable[[effects.Settle], None]] = []
        """Are told of each receipt."""
        self.submitted: list[Callable[[SimulatedNode, inputs.JobSubmitted], None]] = []
        """Are told of each job that a user submits."""
        self.sent: Counter[str] = Counter()
        """How many messages were sent over streams, by class."""
        self.nodes: dict[int, SimulatedNode] = {}
        """Those that have been needed, by number."""
        self._make = make
        self._perform: dict[type, Callable[[SimulatedNode, Any], None]] = {
            effects.Save: self._save,
            effects.Report: self._report,
            effects.Settle: self._settle,
            effects.Send: self._send,
            effects.ProbePeer: self._probe,
            effects.MeasureRoundTrips: self._measure,
            effects.Publish: self._publish,
            effects.Reach: self._reach,
            effects.Prepare: self._prepare,
            effects.FetchOutputs: self._fetch_outputs,
            effects.FetchCheckpoint: self._fetch_checkpoint,
            effects.Launch: self.containers.launch,
            effects.Extend: self.containers.extend,
            effects.TakeCheckpoint: self.containers.take_checkpoint,
            effects.Terminate: self.containers.terminate,
            effects.Kill: self.containers.kill,
            effects.Drop: self.containers.drop,
        }
        """What has no entry changes nothing here: progress, logs, notes, addresses."""

    @property
    def now_ms(self) -> int:
        """The time that nodes read from their clocks."""
        return START_MS + self.engine.now // TICKS_PER_MS

    def node(self, number: int) -> SimulatedNode | None:
        """Return a node; None if it has gone and did nothing before."""
        node = self.nodes.get(number)
        if node is None:
            node = self._make(number)
            if node is not None:
                self.nodes[number] = node
        return node

    def peer(self, peer: PeerId) -> SimulatedNode | None:
        """Return a node by its id."""
        return self.node(self.identities.number_of(peer))

    def give(self, node: SimulatedNode, event: inputs.Input) -> None:
        """Give a node an input, perform what follows, and see when it wants to be woken."""
        if not node.online:
            return
        for effect in node.core.handle(event, self.now_ms):
            self._do(node, effect)
        self._arm(node)

    def hear(self, node: SimulatedNode, signed: Signed[Any], sender: int) -> None:
        """Give a node a message."""
        kind = NUMBER_OF[type(signed.message)]
        self.digest.note(self.engine.now, kind, node.number, sender)
        self.give(node, signed)

    def submit(
        self, node: SimulatedNode, event: inputs.JobSubmitted | inputs.ArraySubmitted
    ) -> None:
        """Let the user of a node submit jobs."""
        self.digest.note(self.engine.now, SUBMISSION, node.number, -1)
        for job in event.jobs if isinstance(event, inputs.ArraySubmitted) else (event,):
            for submitted in self.submitted:
                submitted(node, job)
        self.give(node, event)

    def later(
        self, delay_ms: int, node: SimulatedNode, call: Callable[..., object], *arguments: Any
    ) -> None:
        """Call something after a while, unless the node has gone meanwhile."""
        self._at(delay_ms * TICKS_PER_MS, node, call, *arguments)

    def connect(self, one: SimulatedNode, other: SimulatedNode) -> None:
        """Connect two nodes."""
        if one.online and other.online:
            self.give(one, inputs.PeerConnected(other.peer_id, source_of(other.number)))
            self.give(other, inputs.PeerConnected(one.peer_id, source_of(one.number)))

    def go(self, node: SimulatedNode) -> None:
        """Let a node's machine go, without a word; those that were connected notice it."""
        node.online, node.armed_ms = False, NEVER_MS
        node.generation += 1
        node.in_memory.clear()
        node.containers.clear()
        for peer in tuple(node.core.connected):
            other = self.peer(peer)
            if other is not None:
                delay = max(0, self.links.delay(node.number, other.number))
                self._at(delay, other, self.give, other, inputs.PeerDisconnected(node.peer_id))

    def come_back(self, node: SimulatedNode, core: Core) -> None:
        """Let a node continue with a fresh core from what it had saved."""
        saved = node.disk.read(node.core.presence.sequence)
        node.core, node.online = core, True
        for row in tuple(node.disk.outbox):
            self._transmit(node, row, RESEND_MS)
        self._do_all(node, core.recover(saved, node.policy, self.now_ms))

    # --- time -----------------------------------------------------------------------------

    def _at(
        self, ticks: int, node: SimulatedNode, call: Callable[..., object], *arguments: Any
    ) -> None:
        self.engine.after(ticks, _unless_gone, node, node.generation, call, arguments)

    def _arm(self, node: SimulatedNode) -> None:
        """Schedule the wake-up of a node, unless an earlier one will do it."""
        deadline_ms = node.core.next_deadline_ms()
        if deadline_ms is not None and deadline_ms < node.armed_ms:
            node.armed_ms = deadline_ms
            tick = (deadline_ms - START_MS) * TICKS_PER_MS
            self.engine.at(tick, self._wake, node, deadline_ms)

    def _wake(self, node: SimulatedNode, armed_ms: int) -> None:
        if node.armed_ms != armed_ms or not node.online:
            return  # An earlier one has taken its place, or the node has gone.
        node.armed_ms = NEVER_MS
        deadline_ms = node.core.next_deadline_ms()
        if deadline_ms is not None and deadline_ms <= self.now_ms:
            self.digest.note(self.engine.now, DEADLINE, node.number, -1)
            self.give(node, inputs.DeadlineReached())
            deadline_ms = node.core.next_deadline_ms()
            assert deadline_ms is None or deadline_ms > self.now_ms, f"{node.peer_id} never sleeps"
        else:
            self._arm(node)

    # --- effects --------------------------------------------------------------------------

    def _do_all(self, node: SimulatedNode, wanted: Iterable[Effect]) -> None:
        for effect in wanted:
            self._do(node, effect)
        self._arm(node)

    def _do(self, node: SimulatedNode, effect: Effect) -> None:
        perform = self._perform.get(type(effect))
        if perform is not None:
            perform(node, effect)

    def _save(self, node: SimulatedNode, effect: effects.Save) -> None:
        place = effect.table, effect.key
        if effect.state is None:
            node.disk.saved.pop(place, None)
        else:
            node.disk.saved[place] = effect.state

    def _report(self, node: SimulatedNode, effect: effects.Report) -> None:
        for witness in self.witnesses:
            witness(node, effect.job_id, effect.event)

    def _settle(self, node: SimulatedNode, effect: effects.Settle) -> None:
        if not effect.countersign:
            return
        ours = effect.provider == node.peer_id
        other = effect.requester if ours else effect.provider
        node.disk.settled.append((other, effect.usage_ms if ours else 0))
        if ours:
            for settled in self.settled:
                settled(effect)

    def _send(self, node: SimulatedNode, effect: effects.Send) -> None:
        if effect.until_ms == 0:
            self._deliver(node, effect.peer, effect.envelope)
            return
        node.rows += 1
        outbox = node.disk.outbox if effect.durable else node.in_memory
        outbox[node.rows] = (effect.peer, effect.envelope, effect.until_ms)
        self._transmit(node, node.rows, RESEND_MS)

    def _transmit(self, node: SimulatedNode, row: int, pause_ms: int) -> None:
        """Send a stored message; again after a pause as long as it does not arrive."""
        outbox = node.disk.outbox if row in node.disk.outbox else node.in_memory
        if row not in outbox:
            return
        peer, envelope, until_ms = outbox[row]
        if self.now_ms > until_ms:
            del outbox[row]
        elif self._deliver(node, peer, envelope, outbox, row):
            return
        else:
            self.later(pause_ms, node, self._transmit, node, row, min(2 * pause_ms, RESEND_MS_MAX))

    def _deliver(
        self, node: SimulatedNode, peer: PeerId, envelope: bytes,
        outbox: dict[int, Any] | None = None, row: int = 0,
    ) -> bool:  # fmt: skip
        """Send a message; return whether it will arrive, unless its receiver goes meanwhile."""
        receiver = self.peer(peer)
        if receiver is None:
            return True  # Nobody will ever take it.
        signed = self.identities.open(envelope, node.peer_id)
        self.sent[type(signed.message).__name__] += 1
        delay = self.links.delay(node.number, receiver.number)
        if delay == LOST or not receiver.online:
            return False
        self.engine.after(delay, self._arrive, node, receiver, signed, outbox, row)
        return True

    def _arrive(
        self, node: SimulatedNode, receiver: SimulatedNode, signed: Signed[Any],
        outbox: dict[int, Any] | None, row: int,
    ) -> None:  # fmt: skip
        """Give the receiver a message, and acknowledge it."""
        if receiver.online:
            self.hear(receiver, signed, node.number)
            if outbox is not None:
                outbox.pop(row, None)
        elif outbox is not None and row in outbox:
            self.later(RESEND_MS, node, self._transmit, node, row, 2 * RESEND_MS)

    def _probe(self, node: SimulatedNode, effect: effects.ProbePeer) -> None:
        other = self.peer(effect.peer)
        if other is not None and other.online:
            there_and_back = 2 * max(0, self.links.delay(node.number, other.number))
            self._deliver(node, effect.peer, effect.envelope)
            self._at(there_and_back, node, self.give, node, inputs.PeerAnswered(effect.peer))
        elif self.now_ms + RESEND_MS < effect.until_ms:
            self.later(RESEND_MS, node, self._probe, node, effect)

    def _measure(self, node: SimulatedNode, effect: effects.MeasureRoundTrips) -> None:
        took = []
        for peer in effect.peers:
            other = self.peer(peer)
            is_there = other is not None and other.online
            took.append(
                self.links.round_trip_us(node.number, other.number)
                if other and is_there else NOT_MEASURED
            )  # fmt: skip
        wait_ms = max(took, default=0) * 3 // 1000 + 1
        event = inputs.RoundTripsMeasured(effect.lease_id, tuple(took))
        self.later(wait_ms, node, self.give, node, event)

    def _publish(self, node: SimulatedNode, effect: effects.Publish) -> None:
        assert self.gossip is not None
        self.gossip.publish(node, effect.topic, effect.envelope)

    def _reach(self, node: SimulatedNode, effect: effects.Reach) -> None:
        for peer in effect.peers:
            other = self.peer(peer)
            if other is not None and other.online and peer not in node.core.connected:
                delay = 3 * max(0, self.links.delay(node.number, other.number))
                self._at(delay, node, self.connect, node, other)

    # --- transfers ------------------------------------------------------------------------

    def _prepare(self, node: SimulatedNode, effect: effects.Prepare) -> None:
        lease_id, workload = effect.lease_id, effect.workload
        size = sum(each.blob.size for each in workload.inputs)
        if workload.image not in node.disk.images:
            size += workload.image_bytes
            node.disk.images.add(workload.image)
        failed = inputs.PrepareFailed(lease_id, "the requester is away")
        self._fetch(node, (effect.requester, size), inputs.Prepared(lease_id), failed)

    def _fetch_outputs(self, node: SimulatedNode, effect: effects.FetchOutputs) -> None:
        lost = inputs.OutputsLost(effect.lease_id, "the provider is away")
        there = inputs.OutputsFetched(effect.lease_id)
        self._fetch(node, (effect.provider, effect.outputs.size), there, lost)

    def _fetch_checkpoint(self, node: SimulatedNode, effect: effects.FetchCheckpoint) -> None:
        lease_id, sequence = effect.lease_id, effect.checkpoint.sequence
        lost = inputs.CheckpointLost(lease_id, sequence)
        there = inputs.CheckpointFetched(lease_id, sequence)
        self._fetch(node, (effect.provider, effect.checkpoint.size), there, lost)

    def _fetch(
        self, node: SimulatedNode, what: tuple[PeerId, int], there: Any, lost: Any,
        tries: int = TRANSFER_TRIES,
    ) -> None:  # fmt: skip
        """Give a node the result of a transfer; one that is away is asked again for a while."""
        peer, size = what
        other = self.peer(peer)
        if other is not None and other.online:
            ticks = self.links.transfer(other.number, node.number, size)
            self._at(ticks, node, self.give, node, there)
        elif tries:
            self.later(TRANSFER_RETRY_MS, node, self._fetch, node, what, there, lost, tries - 1)
        else:
            self.give(node, lost)


def _unless_gone(
    node: SimulatedNode, generation: int, call: Callable[..., object], arguments: tuple[Any, ...]
) -> None:
    if node.generation == generation:
        call(*arguments)


def source_of(number: int) -> str:
    """Return the address of a node: each is alone in its network."""
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
