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
from node.simulator.node import SimulatedNode
from node.simulator.outboxes import Outboxes, StreamPaths
from node.simulator.transfers import Transfers
from node.simulator.world.adversaries import AnyCore
from protocol.machines import effects, inputs
from protocol.machines.effects import Effect
from protocol.machines.events import JobEvent
from protocol.values.ids import JobId, PeerId
from protocol.wire.envelope import Signed
from protocol.wire.messages import NOT_MEASURED, NUMBER_OF

START_MS: Final = 1_800_000_000_000
"""The time at tick 0."""
DEADLINE, SUBMISSION = 254, 255
"""Kinds of events in the digest, besides the numbers of messages."""


class GossipModel(Protocol):
    """Brings announcements to the nodes that may want them."""

    def publish(self, author: SimulatedNode, topic: str, envelope: bytes) -> None: ...


Make = Callable[[int], SimulatedNode | None]
Witness = Callable[[SimulatedNode, JobId, JobEvent], None]


class SimulatedNetwork:
    """The nodes that have a core, and what happens between them."""

    def __init__(self, identities: Identities, links: StreamPaths, make: Make) -> None:
        """Take how nodes are named and linked, and what makes a node when it is first needed."""
        self.engine = Engine()
        self.digest = Digest()
        self.identities = identities
        self.links = links
        self.gossip: GossipModel | None = None
        self.containers = Containers(self)
        self.outboxes = Outboxes(self)
        self.witnesses: list[Witness] = []
        """Are told of each event of a job."""
        self.settled: list[Callable[[effects.Settle], None]] = []
        """Are told of each receipt."""
        self.submitted: list[Callable[[SimulatedNode, inputs.JobSubmitted], None]] = []
        """Are told of each job that a user submits."""
        self.processing = 0
        """The ticks that a node is busy with each message, and each result of what it began."""
        self.nodes: dict[int, SimulatedNode] = {}
        """Those that have been needed, by number."""
        self._make = make
        transfers = Transfers(self)
        self._perform: dict[type, Callable[[SimulatedNode, Any], None]] = {
            effects.Save: self._save,
            effects.Report: self._report,
            effects.Settle: self._settle,
            effects.Accuse: self._accuse,
            effects.Send: self.outboxes.send,
            effects.ProbePeer: self.outboxes.probe,
            effects.MeasureRoundTrips: self._measure,
            effects.Publish: self._publish,
            effects.Reach: self._reach,
            effects.Prepare: transfers.prepare,
            effects.FetchOutputs: transfers.fetch_outputs,
            effects.FetchCheckpoint: transfers.fetch_checkpoint,
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

    @property
    def sent(self) -> Counter[str]:
        """How many messages were sent over streams, by class."""
        return self.outboxes.sent

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
        self.at(delay_ms * TICKS_PER_MS, node, call, *arguments)

    def at(
        self, ticks: int, node: SimulatedNode, call: Callable[..., object], *arguments: Any
    ) -> None:
        """Call something so many ticks from now, unless the node has gone meanwhile."""
        self.engine.after(ticks, _unless_gone, node, node.generation, call, arguments)

    def process(self, node: SimulatedNode, call: Callable[..., object], *arguments: Any) -> None:
        """Call something when a node has processed it, after all that came before.

        It is lost if the node goes meanwhile.
        """
        if self.processing:
            self.at(self.occupy(node), node, call, *arguments)
        else:
            call(*arguments)

    def occupy(self, node: SimulatedNode) -> int:
        """Let a node process one thing more; return the ticks until it has."""
        now = self.engine.now
        node.busy_until = max(now, node.busy_until) + self.processing
        return node.busy_until - now

    def connect(self, one: SimulatedNode, other: SimulatedNode) -> None:
        """Connect two nodes that are not connected."""
        if one.online and other.online:
            self._meet(one, other)
            self._meet(other, one)

    def go(self, node: SimulatedNode) -> None:
        """Let a node's machine go, without a word; those that were connected notice it."""
        node.online = False
        node.generation += 1
        node.busy_until = 0
        node.wakes.clear()
        node.in_memory.clear()
        node.containers.clear()
        for peer in tuple(node.core.connected):
            other = self.peer(peer)
            if other is not None:
                delay = max(0, self.links.delay(node.number, other.number))
                self.at(delay, other, self.give, other, inputs.PeerDisconnected(node.peer_id))

    def come_back(self, node: SimulatedNode, core: AnyCore) -> None:
        """Let a node continue with a fresh core from what it had saved."""
        assert not node.online
        saved = node.disk.read(node.core.presence.sequence)
        _free(node.core)
        node.core, node.online = core, True
        self.outboxes.resume(node)
        self._do_all(node, core.recover(saved, node.policy, self.now_ms))

    def _meet(self, node: SimulatedNode, other: SimulatedNode) -> None:
        if other.peer_id not in node.core.connected:
            self.give(node, inputs.PeerConnected(other.peer_id, source_of(other.number)))

    # --- time -----------------------------------------------------------------------------

    def _arm(self, node: SimulatedNode) -> None:
        """Schedule the wake-up of a node, unless an earlier one will come to it."""
        deadline_ms = node.core.next_deadline_ms()
        if deadline_ms is None:
            return
        wakes, at_ms = node.wakes, max(deadline_ms, self.now_ms)
        if not wakes or at_ms < wakes[-1]:
            wakes.append(at_ms)
            tick = (at_ms - START_MS) * TICKS_PER_MS
            self.engine.at(tick, _unless_gone, node, node.generation, self._wake, (node,))

    def _wake(self, node: SimulatedNode) -> None:
        node.wakes.pop()
        deadline_ms = node.core.next_deadline_ms()
        if deadline_ms is not None and deadline_ms <= self.now_ms:
            self.digest.note(self.engine.now, DEADLINE, node.number, -1)
            self.give(node, inputs.DeadlineReached())
            assert not node.wakes or node.wakes[-1] > self.now_ms, f"{node.peer_id} never sleeps"
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

    def _accuse(self, node: SimulatedNode, effect: effects.Accuse) -> None:
        node.disk.proven.append(effect.finding)

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
                self.at(delay, node, self.connect, node, other)


def _free(core: Any) -> None:
    """Cut the cycle in a core that is used no more: a run has no garbage collector.

    A core that deviates has an honest one inside.
    """
    vars(getattr(core, "core", core).requester).clear()


def _unless_gone(
    node: SimulatedNode, generation: int, call: Callable[..., object], arguments: tuple[Any, ...]
) -> None:
    if node.generation == generation:
        call(*arguments)


def source_of(number: int) -> str:
    """Return the address of a node: each is alone in its network."""
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
