"""A simulated network in which a node may crash at every commit and before every effect.

Spec: specs/faults.md#model. It adds to the simulated network: crash points, frozen and dead nodes,
the fate of each message, and a record of it all.
"""

from collections.abc import Callable
from typing import Any, Final

from node.simulator.outboxes import NO_ROW
from protocol.core.jobs import Job
from protocol.machines import effects, inputs
from protocol.machines.context import Policy
from protocol.values.ids import JobId, LeaseId, PeerId
from protocol.values.limits import CLOCK_SKEW_MS, RETAIN_MS
from protocol.wire.envelope import Signed
from protocol.wire.job import JobSpec
from protocol.wire.messages import Call, Message
from tests.faults.history import History, Noted, Sent
from tests.faults.parts import (
    FaultyContainers,
    FaultyOutboxes,
    FaultyPaths,
    FaultyTransfers,
    RecordedKeys,
)
from tests.faults.rules import Rules
from tests.simulated_network import SimulatedNetwork
from tests.simulated_node import Node, RecordingDisk
from tests.simulated_parts import TRANSFER_MS

WITNESS_MS: Final = 1_000
"""How long it takes to see that no other peer answers."""
Fate = Callable[[Node, Node, Message | None], tuple[int, ...]]
"""The delays of the copies that arrive of a message; None is an acknowledgement."""


class FaultyNetwork(SimulatedNetwork):
    """Nodes, their faults, and the history of what they did."""

    containers_type = FaultyContainers
    outboxes_type = FaultyOutboxes
    transfers_type = FaultyTransfers
    keys_type = RecordedKeys
    paths_type = FaultyPaths
    disks_type = RecordingDisk
    """States never change: their bytes are made when a restart reads them."""

    def __init__(self, seed: int = 0, *, job_ms: int = 2_000) -> None:
        super().__init__(seed, job_ms=job_ms)
        self.history = History(opened=self.identities.opened)
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
        self.rules = Rules()
        self._thaw_ms: dict[int, int] = {}
        self._event: Any = None

    # Actions of a run.

    def submit(self, node: Node, spec: JobSpec | None = None) -> JobId:
        return self._note_jobs(node, [super().submit(node, spec)])[0]

    def submit_gang(self, node: Node, spec: JobSpec) -> list[JobId]:
        return self._note_jobs(node, super().submit_gang(node, spec))

    def freeze(self, node: Node, duration_ms: int) -> None:
        """Stop a node's daemon for a while; it does not notice. Its containers go on."""
        if node.online:
            self.say(f"{node.name}: freezes for {duration_ms} ms")
            self._thaw_ms[node.number] = self.now_ms + duration_ms
            node.wakes.clear()
            self.later(duration_ms, node, self._wake_thawed, node)

    def thaw(self) -> None:
        """Let all frozen nodes go on."""
        self._thaw_ms.clear()
        for node in self.nodes.values():
            self._wake_thawed(node)

    def crash(self, node: Node, *, machine: bool = False) -> None:
        super().crash(node, machine=machine)
        if not self.rules.keeps_outbox:
            node.disk.outbox.clear()
        self._thaw_ms.pop(node.number, None)

    def die(self, node: Node, *, machine: bool) -> None:
        """Crash a node for ever."""
        self.dead.add(node.peer_id)
        if node.online or machine:
            self.crash(node, machine=machine)

    def restart(self, node: Node, behind_ms: int = 0) -> None:
        self._event = None
        if behind_ms:
            self.clock_was_set.add(node.peer_id)
        node.disk.reread()
        super().restart(node, behind_ms)

    def replay(self, fact: Sent, delay_ms: int) -> None:
        """Let a message that was sent before arrive once more.

        A node that has restarted has forgotten the calls that it heard: it gets none of them.
        """
        node, receiver = self.peer(fact.node), self.peer(fact.receiver)
        if isinstance(fact.signed.message, Call):
            if not receiver.generation:
                self.after(delay_ms, self.hear_gossip, receiver, fact.signed)
        else:
            self.after(delay_ms, self.outboxes.replay, node, receiver, fact.signed)

    def pass_all_deadlines(self) -> None:
        """Let containers of dead requesters pause; then paused ones end, then unpaid bills."""
        self.run(60_000)
        for away_ms in (2 * Policy().pause_ms, RETAIN_MS + CLOCK_SKEW_MS):
            self.sleep(away_ms)
            self.run(30_000)

    def say(self, line: str) -> None:
        """Add a line to the trace."""
        self.history.facts.append(Noted(self.now_ms, line))

    # Views of a run.

    def states(self, node: Node, table: str) -> list[Any]:
        """Return the states that a node has saved in a table."""
        return list(node.disk.states(table))

    def job(self, node: Node, job_id: JobId) -> Job:
        """Return a job as it is saved."""
        return node.job(job_id)

    def is_running(self, node: Node, lease_id: LeaseId) -> bool:
        """Return whether a container has not ended; it may be paused."""
        container = node.containers.get(lease_id)
        return container is not None and container.exited is None

    def is_frozen(self, node: Node) -> bool:
        return self._thaw_ms.get(node.number, 0) > self.now_ms

    def frozen_ms(self, node: Node) -> int:
        """Return how long a node remains frozen."""
        return max(0, self._thaw_ms.get(node.number, 0) - self.now_ms)

    def reaches(self, node: Node, other: Node) -> bool:
        """Return whether a node can ask another and hear its answer."""
        there = other.online and not self.is_frozen(other)
        ways = (node.name, other.name), (other.name, node.name)
        return there and not any(self.drop(*way, None) for way in ways)

    def _note_jobs(self, node: Node, jobs: list[JobId]) -> list[JobId]:
        self.jobs += [(node, one) for one in jobs if ("job", one) in node.disk.saved]
        return jobs

    # One step: the commit, then the effects. A node may crash between any two of them.

    def give(self, node: Node, event: Any) -> None:
        if self.is_frozen(node):
            self.later(self.frozen_ms(node), node, self.give, node, event)
        else:
            self._event = event
            super().give(node, event)

    def _wake_thawed(self, node: Node) -> None:
        if node.online and not self.is_frozen(node):
            self._arm(node)

    def _do_all(self, node: Node, wanted: list[effects.Effect]) -> None:
        todo = [effect for effect in wanted if not self.rules.dropped(node, effect)]
        event, self._event = self._event, None
        if self._step(node, event, todo):
            self._arm(node)
        else:
            self.crash(node)
            self.on_crash(node)

    def _step(self, node: Node, event: Any, todo: list[effects.Effect]) -> bool:
        """Commit and perform the effects of a step; return False if the node crashes."""
        early = [effect for effect in todo if self.rules.early(effect)]
        for effect in early:
            self._do(node, effect, NO_ROW)
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

    def _do(self, node: Node, effect: effects.Effect, row: int = NO_ROW) -> None:
        instead = self.accident(effect)
        if instead is not None:
            self.later(TRANSFER_MS, node, self.give, node, instead)
            return
        super()._do(node, effect, row)
        if isinstance(effect, effects.ProbePeer):
            self._look_around(node, effect.peer)

    def _look_around(self, node: Node, silent: PeerId) -> None:
        """See whether any other peer answers than one that is silent."""
        witnesses = [
            other for other in self.nodes.values()
            if other.peer_id in node.core.connected and other.peer_id not in {silent, node.peer_id}
        ]  # fmt: skip
        if witnesses and not any(self.reaches(node, other) for other in witnesses):
            self.later(WITNESS_MS, node, self.give, node, inputs.NetworkLost())

    # The network.

    def copies(self, sender: Node, receiver: Node, signed: Signed[Any]) -> tuple[int, ...]:
        cut = self.drop(sender.name, receiver.name, signed.message)
        delays = () if cut else self.fate(sender, receiver, signed.message)
        sent = Sent(self.now_ms, sender.peer_id, receiver.peer_id, signed, len(delays))
        self.history.facts.append(sent)
        return delays

    def hear_gossip(self, node: Node, signed: Signed[Any]) -> None:
        message, now_ms = signed.message, self.now_ms - node.behind_ms
        if not isinstance(message, Call) or abs(message.issued_ms - now_ms) <= CLOCK_SKEW_MS:
            self.give(node, signed)
