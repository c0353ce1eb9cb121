"""A simulated network in which a node may crash at every commit and before every effect.

Spec: specs/faults.md#model. It adds to the simulated network: crash points, lost and late
acknowledgements, frozen and dead nodes, transfers that need both nodes, and a record of it all.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

from protocol.core.core import Core
from protocol.core.jobs import Job
from protocol.core.presence import record_of
from protocol.machines import effects, inputs
from protocol.machines.context import Context, Policy
from protocol.rules.topics import topics_of
from protocol.values.ids import JobId, LeaseId, PeerId, digest_of
from protocol.values.limits import CLOCK_SKEW_MS, RETAIN_MS
from protocol.wire.envelope import Signed
from protocol.wire.job import JobSpec
from protocol.wire.messages import NOT_MEASURED, Call, Carrier, Message
from protocol.wire.snapshot import to_snapshot
from tests.faults.history import History, Launched, Noted, Sent
from tests.faults.rules import Rules
from tests.faults.signer import RecordingSigner
from tests.simulated_network import LENDS_NOTHING, NETWORK, SimulatedNetwork
from tests.simulated_node import Container, Node

RESEND_FIRST_MS: Final = 600
RESEND_MS_MAX: Final = 20_000
TRANSFER_MS: Final = 20
RETRY_TRANSFER_MS: Final = 2_000
WITNESS_MS: Final = 1_000
"""How long it takes to see that no other peer answers."""
Fate = Callable[[Node, Node, Message | None], tuple[int, ...]]
"""The delays of the copies that arrive of a message; None is an acknowledgement."""


class FaultyNetwork(SimulatedNetwork):
    """Nodes, their faults, and the history of what they did."""

    def __init__(self, seed: int = 0, *, job_ms: int = 2_000) -> None:
        super().__init__(seed, job_ms=job_ms)
        self.history = History(opened=self._opened)
        self.fate: Fate = lambda sender, receiver, message: (5,)
        self.crashes: Callable[[Node], bool] = lambda node: False
        """Whether a node crashes at this point."""
        self.crashes_in_haste: Callable[[Node], bool] = lambda node: False
        """The same, after an effect that a mutant performs before the commit."""
        self.on_step: Callable[[Node], None] = lambda node: None
        self.on_crash: Callable[[Node], None] = lambda node: None
        self.accident: Callable[[effects.Effect], Any] = lambda effect: None
        """An input that comes instead of the usual result of an effect."""
        self.dead: set[PeerId] = set()
        """Nodes that never come back."""
        self.clock_was_set: set[PeerId] = set()
        """Nodes whose clock was set while they were down."""
        self.jobs: list[tuple[Node, JobId]] = []  # Those that were committed.
        self.durable: dict[PeerId, dict[tuple[str, bytes], Any]] = {}
        """The states that each node has saved, by table and key."""
        self.rules = Rules()
        self._thaw_ms: dict[PeerId, int] = {}
        self._due_ms: dict[PeerId, int | None] = {}
        self._event: Any = None
        self._topics: dict[PeerId, frozenset[str]] = {}

    # Actions of a run.

    def add(self, name: str, policy: Policy = LENDS_NOTHING) -> Node:
        signer = RecordingSigner(digest_of(name.encode()), NETWORK, self._opened)
        node = Node(name, signer, policy, Core(signer, policy))
        self.nodes[node.peer_id] = node
        self.durable[node.peer_id] = {}
        self._give(node, inputs.PolicyChanged(policy))
        return node

    def submit(self, node: Node, spec: JobSpec | None = None) -> JobId:
        return self._note_jobs(node, [super().submit(node, spec)])[0]

    def submit_gang(self, node: Node, spec: JobSpec) -> list[JobId]:
        return self._note_jobs(node, super().submit_gang(node, spec))

    def freeze(self, node: Node, duration_ms: int) -> None:
        """Stop a node's daemon for a while; it does not notice. Its containers go on."""
        if node.alive:
            self._say(f"{node.name}: freezes for {duration_ms} ms")
            self._thaw_ms[node.peer_id] = self.now_ms + duration_ms
            self._note_deadline(node)

    def thaw(self) -> None:
        """Let all frozen nodes go on."""
        self._thaw_ms.clear()
        for node in self.nodes.values():
            self._note_deadline(node)

    def crash(self, node: Node, *, machine: bool = False) -> None:
        super().crash(node, machine=machine)
        if not self.rules.keeps_outbox:
            node.disk.outbox.clear()
        self._thaw_ms.pop(node.peer_id, None)
        self._note_deadline(node)

    def die(self, node: Node, *, machine: bool) -> None:
        """Crash a node for ever."""
        self.dead.add(node.peer_id)
        if node.alive or machine:
            self.crash(node, machine=machine)

    def restart(self, node: Node, behind_ms: int = 0) -> None:
        self._event, kept = None, dict(node.containers)
        if behind_ms:
            self.clock_was_set.add(node.peer_id)
        states = self.durable[node.peer_id]
        node.disk.saved = {place: to_snapshot(state) for place, state in states.items()}
        super().restart(node, behind_ms)
        if not self.rules.reaps:
            node.containers = kept | node.containers

    def replay(self, fact: Sent, delay_ms: int) -> None:
        """Let a message that was sent before arrive once more.

        A node that has restarted has forgotten the calls that it heard: it gets none of them.
        """
        node, receiver = self.nodes[fact.node], self.nodes[fact.receiver]
        if isinstance(fact.signed.message, Call):
            if not receiver.generation:
                self.after(delay_ms, lambda: self._hear_gossip(receiver, fact.signed))
        else:
            self.after(delay_ms, lambda: self._arrive(node, receiver, fact.signed.envelope, 0))

    def pass_all_deadlines(self) -> None:
        """Let containers of dead requesters pause; then paused ones end, then unpaid bills."""
        self.run(60_000)
        for away_ms in (2 * Policy().pause_ms, RETAIN_MS + CLOCK_SKEW_MS):
            self.sleep(away_ms)
            self.run(30_000)

    def say(self, line: str) -> None:
        """Add a line to the trace."""
        self.history.facts.append(Noted(self.now_ms, line))

    _say = say

    # Views of a run.

    def states(self, node: Node, table: str) -> list[Any]:
        """Return the states that a node has saved in a table."""
        saved = self.durable[node.peer_id]
        return [state for (where, _), state in saved.items() if where == table]

    def job(self, node: Node, job_id: JobId) -> Job:
        """Return a job as it is saved."""
        found: Job = self.durable[node.peer_id]["job", job_id]
        return found

    def _note_jobs(self, node: Node, jobs: list[JobId]) -> list[JobId]:
        self.jobs += [(node, one) for one in jobs if ("job", one) in self.durable[node.peer_id]]
        return jobs

    def is_running(self, node: Node, lease_id: LeaseId) -> bool:
        """Return whether a container has not ended; it may be paused."""
        container = node.containers.get(lease_id)
        return container is not None and container.exited is None

    # One step: the commit, then the effects. A node may crash between any two of them.

    def _give(self, node: Node, event: Any) -> None:
        if self._is_frozen(node):
            generation = node.generation
            self.after(
                self._thaw_ms[node.peer_id] - self.now_ms,
                lambda: self._give(node, event) if node.generation == generation else None,
            )
        elif node.alive:
            self._event = event
            self._perform(node, node.core.handle(event, self.now_ms - node.behind_ms))

    def _perform(self, node: Node, wanted: Iterable[effects.Effect]) -> None:
        todo = [effect for effect in wanted if not self.rules.dropped(node, effect)]
        event, self._event = self._event, None
        if self._settle(node, event, todo):
            self._note_deadline(node)
        else:
            self.crash(node)
            self.on_crash(node)

    def _settle(self, node: Node, event: Any, todo: list[effects.Effect]) -> bool:
        """Commit and perform the effects of a step; return False if the node crashes."""
        early = [effect for effect in todo if self.rules.early(effect)]
        for effect in early:
            self._do_early(node, effect)
        hasty = early or (self.rules.acknowledges_early and isinstance(event, Signed))
        if todo and (self.crashes_in_haste(node) if hasty else self.crashes(node)):
            return False
        rows = [self._write(node, effect) for effect in todo]
        self.history.commit(self.now_ms, node.peer_id, event, tuple(todo))
        if todo:
            self.on_step(node)
        for effect, row in zip(todo, rows, strict=True):
            if self.crashes(node):
                return False
            if effect not in early or isinstance(effect, effects.Send):
                self._do(node, effect, row)
        return not (todo and self.crashes(node))

    def _write(self, node: Node, effect: effects.Effect) -> int:
        """Save a state; its bytes are made when a restart reads them, for states never change."""
        if not isinstance(effect, effects.Save):
            return super()._write(node, effect)
        states, place = self.durable[node.peer_id], (effect.table, effect.key)
        if effect.state is None:
            states.pop(place, None)
        else:
            states[place] = effect.state
        return 0

    def _do_early(self, node: Node, effect: effects.Effect) -> None:
        match effect:
            case effects.Send(peer, envelope):
                self._deliver(node, peer, envelope, 0)
            case _:
                self._do(node, effect, 0)

    def _do(self, node: Node, effect: effects.Effect, row: int) -> None:
        if (instead := self.accident(effect)) is not None:
            self._later(TRANSFER_MS, node, instead)
            return
        match effect:
            case effects.Prepare(lease_id, requester):
                prepared = inputs.Prepared(lease_id)
                self._transfer(node, requester, lambda: prepared)
            case effects.FetchOutputs(_, lease_id, provider):
                self._transfer(node, provider, lambda: self._fetch(provider, lease_id))
            case effects.FetchCheckpoint(_, lease_id, provider, _, checkpoint):
                here = inputs.CheckpointFetched(lease_id, checkpoint.sequence)
                self._transfer(node, provider, lambda: here)
            case effects.MeasureRoundTrips(lease_id, peers):
                took = tuple(self._measure(node, self.nodes[peer]) for peer in peers)
                self._later(TRANSFER_MS, node, inputs.RoundTripsMeasured(lease_id, took))
            case _:
                super()._do(node, effect, row)

    def _measure(self, node: Node, other: Node) -> int:
        """Return a round trip in microseconds."""
        took_us = self.round_trip_us(node.name, other.name)
        return took_us if self._reaches(node, other) else NOT_MEASURED

    def _fetch(self, provider: PeerId, lease_id: LeaseId) -> inputs.Input:
        if ("provider-lease", lease_id) in self.durable[provider]:
            return inputs.OutputsFetched(lease_id)
        return inputs.OutputsLost(lease_id, "the provider has dropped them")

    def _transfer(self, node: Node, peer: PeerId, result: Callable[[], Any]) -> None:
        """Give the result of a transfer to a node as soon as the other node is there."""
        other = self.nodes[peer]
        if self._reaches(node, other):
            self._later(TRANSFER_MS, node, result())
        elif peer not in self.dead:
            now, again = node.generation, lambda: self._transfer(node, peer, result)
            self.after(RETRY_TRANSFER_MS, lambda: node.generation == now and again())

    def _launch(self, node: Node, launch: effects.Launch) -> None:
        lease_id = launch.lease_id
        if not self.rules.launches_once:
            node.launched.discard(lease_id)
        if lease_id not in node.launched:
            self.history.facts.append(Launched(self.now_ms, node.peer_id, lease_id))
        super()._launch(node, launch)

    def _kill(self, node: Node, lease_id: LeaseId) -> None:
        if lease_id in node.containers:
            node.containers[lease_id].launched_by = node.generation
        super()._kill(node, lease_id)

    def _tell_exit(self, node: Node, container: Container) -> None:
        """Tell a daemon that has launched, adopted or killed the container: no other watches it."""
        if container.launched_by == node.generation:
            super()._tell_exit(node, container)

    def _reach_end(self, node: Node, lease_id: LeaseId) -> None:
        container = node.containers.get(lease_id)
        if container is not None and not self.rules.enforces_budgets:
            container.budget_ms = max(container.budget_ms, self.job_ms)
        super()._reach_end(node, lease_id)

    # The network.

    def _transmit(self, node: Node, row: int, pause_ms: int = RESEND_FIRST_MS) -> None:
        outbox = node.disk.outbox if row in node.disk.outbox else node.in_memory
        if row not in outbox or not node.alive:
            return
        peer, envelope, until_ms = outbox[row]
        if self.now_ms - node.behind_ms > until_ms:
            del outbox[row]
            return
        generation, following_ms = node.generation, min(2 * pause_ms, RESEND_MS_MAX)
        if not self._is_frozen(node):
            self._deliver(node, peer, envelope, row)

        self.after(pause_ms, lambda: node.generation == generation and self._transmit(
            node, row, following_ms
        ))  # fmt: skip

    def _deliver(self, node: Node, peer: PeerId, envelope: bytes, row: int) -> None:
        receiver, signed = self.nodes[peer], self._opened[envelope]
        assert signed.signer == node.peer_id
        for delay_ms in self._fate(node, receiver, signed):
            self.after(delay_ms, lambda: self._arrive(node, receiver, envelope, row))

    def _fate(self, node: Node, receiver: Node, signed: Signed[Any]) -> tuple[int, ...]:
        cut = self.drop(node.name, receiver.name, signed.message)
        delays = () if cut else self.fate(node, receiver, signed.message)
        sent = Sent(self.now_ms, node.peer_id, receiver.peer_id, signed, len(delays))
        self.history.facts.append(sent)
        return delays

    def _arrive(self, sender: Node, receiver: Node, envelope: bytes, row: int) -> None:
        if self._is_frozen(receiver):
            wait_ms = self._thaw_ms[receiver.peer_id] - self.now_ms
            wait_ms += self.random.randint(0, 500)  # What has waited arrives in any order.
            self.after(wait_ms, lambda: self._arrive(sender, receiver, envelope, row))
            return
        if not receiver.alive:
            return
        if self.rules.acknowledges_early:
            self._acknowledge(receiver, sender, row)
        self._give(receiver, self._opened[envelope])
        # The receiver acknowledges only what it has committed.
        if receiver.alive:
            self._acknowledge(receiver, sender, row)

    def _acknowledge(self, node: Node, sender: Node, row: int) -> None:
        if not self.drop(node.name, sender.name, None):
            for delay_ms in self.fate(node, sender, None):
                self.after(delay_ms, lambda: self._forget(sender, row))

    def _forget(self, node: Node, row: int) -> None:
        if node.alive:
            node.disk.outbox.pop(row, None)
            node.in_memory.pop(row, None)
            if row in node.probes:
                self._give(node, inputs.PeerAnswered(node.probes.pop(row)))

    def _probe(self, node: Node, peer: PeerId, envelope: bytes, until_ms: int) -> None:
        """Ask a silent peer, and look whether any other answers."""
        super()._probe(node, peer, envelope, until_ms)
        others = [
            other for other in self.nodes.values() if other.peer_id not in {peer, node.peer_id}
        ]
        witnesses = [other for other in others if other.peer_id in node.core.connected]
        if witnesses and not any(self._reaches(node, other) for other in witnesses):
            self._later(WITNESS_MS, node, inputs.NetworkLost())

    def _reaches(self, node: Node, other: Node) -> bool:
        """Return whether a node can ask another and hear its answer."""
        there = other.alive and not self._is_frozen(other)
        ways = (node.name, other.name), (other.name, node.name)
        return there and not any(self.drop(*way, None) for way in ways)

    def _gossip(self, node: Node, topic: str, envelope: bytes) -> None:
        signed = self._opened[envelope]
        for other in self.nodes.values():
            if other is node or not self._subscribes(other, topic):
                continue
            for delay_ms in self._fate(node, other, signed):
                self.after(delay_ms, lambda to=other: self._hear_gossip(to, signed))

    def _subscribes(self, node: Node, topic: str) -> bool:
        known = self._topics.get(node.peer_id)
        if known is None:
            record = record_of(Context(self.now_ms, node.signer, node.policy), 1)
            known = self._topics[node.peer_id] = frozenset(topics_of(record))
        return topic in known

    def _hear_gossip(self, node: Node, signed: Signed[Any]) -> None:
        message, now_ms = signed.message, self.now_ms - node.behind_ms
        if not isinstance(message, Call) or abs(message.issued_ms - now_ms) <= CLOCK_SKEW_MS:
            self._give(node, signed)

    def _open(self, sender: Node, envelope: bytes, carrier: Carrier) -> Signed[Any]:
        return self._opened[envelope]

    def _is_frozen(self, node: Node) -> bool:
        return self._thaw_ms.get(node.peer_id, 0) > self.now_ms

    def _note_deadline(self, node: Node) -> None:
        due_ms = node.deadline_ms
        if due_ms is not None:
            due_ms = max(due_ms, self._thaw_ms.get(node.peer_id, 0))
        self._due_ms[node.peer_id] = due_ms

    def _deadlines(self) -> list[int]:
        return [due_ms for due_ms in self._due_ms.values() if due_ms is not None]

    def _wake(self) -> None:
        for node in self.nodes.values():
            due_ms = self._due_ms.get(node.peer_id)
            if due_ms is not None and due_ms <= self.now_ms:
                self._give(node, inputs.DeadlineReached())
                due_ms = self._due_ms[node.peer_id]
                assert due_ms is None or due_ms > self.now_ms, f"{node.name} never sleeps"
