"""A network of simulated nodes: performs what their cores want, in virtual time.

The cores are the node's own. Simulated are the connections between them, their disks, transfers
and containers. A step of a core has two halves: what it saves, and what happens then. In a scenario
a node goes between two steps, never within one. (`scripts/faults` breaks nodes within steps.)

Spec: specs/simulation.md#nodes.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol

from node.simulator.containers import Containers
from node.simulator.digest import Digest
from node.simulator.engine import TICKS_PER_MS, Engine
from node.simulator.identities import Identities
from node.simulator.node import SimulatedNode
from node.simulator.outboxes import NO_ROW, Outboxes, StreamPaths
from node.simulator.transfers import Transfers
from node.simulator.world.adversaries import AnyCore
from protocol.machines import effects, inputs
from protocol.machines.effects import Effect
from protocol.machines.events import JobEvent
from protocol.values.ids import JobId, PeerId
from protocol.wire.envelope import Signed
from protocol.wire.messages import NOT_MEASURED, NUMBER_OF

if TYPE_CHECKING:
    from node.simulator.lookups import AddressLookups

START_MS: Final = 1_800_000_000_000
"""The time at tick 0."""
MEASURE_AGAIN_MS: Final = 300
"""How long a node waits before it measures again to one that is away."""
DEADLINE, SUBMISSION = 254, 255
"""Kinds of events in the digest, besides the numbers of messages."""


class GossipModel(Protocol):
    """Brings announcements to the nodes that may want them."""

    def publish(self, author: SimulatedNode, topic: str, envelope: bytes) -> None: ...


Make = Callable[[int], SimulatedNode | None]
Witness = Callable[[SimulatedNode, JobId, JobEvent], None]


class SimulatedNetwork:
    """The nodes that have a core, and what happens between them."""

    containers_type: ClassVar[type[Containers]] = Containers
    outboxes_type: ClassVar[type[Outboxes]] = Outboxes
    transfers_type: ClassVar[type[Transfers]] = Transfers
    """What performs the effects of all nodes."""

    def __init__(self, identities: Identities, links: StreamPaths, make: Make) -> None:
        """Take how nodes are named and linked, and what makes a node when it is first needed."""
        self.engine = Engine()
        self.digest = Digest()
        self.identities = identities
        self.links = links
        self.gossip: GossipModel | None = None
        self.lookups: AddressLookups | None = None
        """How addresses are found; None if all are known."""
        self.containers = self.containers_type(self)
        self.outboxes = self.outboxes_type(self)
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
        transfers = self.transfers_type(self)
        self._commit: dict[type, Callable[[SimulatedNode, Any], object]] = {
            effects.Save: self._save,
            effects.Report: self._report,
            effects.Settle: self._settle,
            effects.Accuse: self._accuse,
        }
        self._perform: dict[type, Callable[[SimulatedNode, Any], None]] = {
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
        self._do_all(node, node.core.handle(event, self.now_ms - node.behind_ms))

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

    def after(self, delay_ms: int, call: Callable[..., object], *arguments: Any) -> None:
        """Call something after a while."""
        self.engine.after(delay_ms * TICKS_PER_MS, call, *arguments)

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
        self.stop_daemon(node)
        node.containers.clear()
        for peer in tuple(node.core.connected):
            other = self.peer(peer)
            if other is not None:
                delay = max(0, self.links.delay(node.number, other.number))
                self.at(delay, other, self.give, other, inputs.PeerDisconnected(node.peer_id))

    def stop_daemon(self, node: SimulatedNode) -> None:
        """End a node's daemon, without a word; its containers go on."""
        node.online = False
        node.generation += 1
        node.busy_until = 0
        node.wakes.clear()
        node.in_memory.clear()

    def come_back(self, node: SimulatedNode, core: AnyCore) -> None:
        """Let a node continue with a fresh core from what it had saved."""
        assert not node.online
        saved = node.disk.read(node.core.presence.sequence)
        _free(node.core)
        node.core, node.online = core, True
        wanted = core.recover(saved, node.policy, self.now_ms - node.behind_ms)
        self.containers.reap(node)
        self.outboxes.resume(node)
        self._do_all(node, wanted)

    def _meet(self, node: SimulatedNode, other: SimulatedNode) -> None:
        if other.peer_id not in node.core.connected:
            self.give(node, inputs.PeerConnected(other.peer_id, source_of(other.number)))

    # --- time -----------------------------------------------------------------------------

    def _arm(self, node: SimulatedNode) -> None:
        """Schedule the wake-up of a node, unless an earlier one will come to it."""
        deadline_ms = node.deadline_ms
        if deadline_ms is None:
            return
        wakes, at_ms = node.wakes, max(deadline_ms, self.now_ms)
        if not wakes or at_ms < wakes[-1]:
            wakes.append(at_ms)
            tick = (at_ms - START_MS) * TICKS_PER_MS
            self.engine.at(tick, _unless_gone, node, node.generation, self._wake, (node,))

    def _wake(self, node: SimulatedNode) -> None:
        if not node.wakes or node.wakes[-1] > self.now_ms:
            return  # It was woken for something else meanwhile.
        node.wakes.pop()
        if self._is_due(node):
            self.digest.note(self.engine.now, DEADLINE, node.number, -1)
            self.give(node, inputs.DeadlineReached())
            assert not self._is_due(node), f"{node.peer_id} never sleeps"
        else:
            self._arm(node)

    def _is_due(self, node: SimulatedNode) -> bool:
        deadline_ms = node.deadline_ms
        return deadline_ms is not None and deadline_ms <= self.now_ms

    # --- effects --------------------------------------------------------------------------

    def _do_all(self, node: SimulatedNode, wanted: Sequence[Effect]) -> None:
        """Take a step: save what follows from an input, then let it happen."""
        rows = [self._write(node, effect) for effect in wanted]
        for effect, row in zip(wanted, rows, strict=True):
            self._do(node, effect, row)
        self._arm(node)

    def _write(self, node: SimulatedNode, effect: Effect) -> int:
        """Save what an effect leaves on the disk; return the row of a message."""
        if isinstance(effect, effects.Send):
            return self.outboxes.store(node, effect)
        commit = self._commit.get(type(effect))
        if commit is not None:
            commit(node, effect)
        return NO_ROW

    def _do(self, node: SimulatedNode, effect: Effect, row: int = NO_ROW) -> None:
        """Let an effect happen whose step is on the disk."""
        if isinstance(effect, effects.Send):
            self.outboxes.send(node, effect, row)
            return
        perform = self._perform.get(type(effect))
        if perform is not None:
            perform(node, effect)

    def _save(self, node: SimulatedNode, effect: effects.Save) -> None:
        node.disk.keep(effect)

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
        """Measure round trips; those to nodes that are away again and again, until the deadline."""
        took = []
        for peer in effect.peers:
            other = self.peer(peer)
            is_there = other is not None and other.online
            took.append(
                self.links.round_trip_us(node.number, other.number)
                if other and is_there else NOT_MEASURED
            )  # fmt: skip
        wait_ms = max(took, default=0) * 3 // 1000 + 1
        its_ms = self.now_ms - node.behind_ms
        if NOT_MEASURED in took and its_ms + MEASURE_AGAIN_MS + wait_ms < effect.until_ms:
            self.later(MEASURE_AGAIN_MS, node, self._measure, node, effect)
            return
        event = inputs.RoundTripsMeasured(effect.lease_id, tuple(took))
        self.later(wait_ms, node, self.give, node, event)

    def _publish(self, node: SimulatedNode, effect: effects.Publish) -> None:
        assert self.gossip is not None
        self.gossip.publish(node, effect.topic, effect.envelope)

    def _reach(self, node: SimulatedNode, effect: effects.Reach) -> None:
        for peer in effect.peers:
            if self.lookups is None:
                self._dial(node, peer)
            elif peer not in node.core.connected:
                dial = partial(_unless_gone, node, node.generation, self._dial, (node, peer))
                self.lookups.find(node.number, self.identities.number_of(peer), dial)

    def _dial(self, node: SimulatedNode, peer: PeerId) -> None:
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
