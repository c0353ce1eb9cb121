"""The parts of a faulty network: those of the simulator, which here fail as a run wants.

Spec: specs/faults.md#model. Any number of copies of a message arrive, at any time, and nobody knows
whether they do: a message is sent again until an acknowledgement comes, which may be late or lost.
"""

from dataclasses import replace
from typing import Any

from node.simulator.node import SimulatedContainer
from node.simulator.outboxes import Flight, Outboxes
from node.simulator.transfers import Transfers
from protocol.machines import effects, inputs
from protocol.values.ids import LeaseId, PeerId
from protocol.wire.envelope import Signed
from protocol.wire.messages import NOT_MEASURED, Carrier
from tests.faults.history import Launched
from tests.faults.signer import RecordingSigner
from tests.simulated_node import Node
from tests.simulated_parts import NETWORK, NamedKeys, RandomPaths, ToldContainers

THAWED_MS = 500
"""What has waited for a frozen node arrives within this time, in any order."""


class RecordedKeys(NamedKeys):
    """Identities whose messages are known when they are signed, and not verified again."""

    def make(self, key: bytes) -> RecordingSigner:
        return RecordingSigner(key, NETWORK, self.opened)

    def open(
        self, envelope: bytes, sender: PeerId, carrier: Carrier = Carrier.STREAM
    ) -> Signed[Any]:
        signed = self.opened[envelope]
        assert signed.signer == sender
        return signed


class FaultyPaths(RandomPaths):
    """Nobody measures a node that cannot answer."""

    def round_trip_us(self, one: int, other: int) -> int:
        network = self._network
        reaches = network.reaches(network.nodes[one], network.nodes[other])
        return super().round_trip_us(one, other) if reaches else NOT_MEASURED


class FaultyOutboxes(Outboxes):
    """Sends copies of messages, and acknowledges them, as the network's fate says."""

    _network: Any

    def _fly(self, flight: Flight, peer: PeerId, envelope: bytes) -> None:
        network, sender = self._network, flight.sender
        receiver, signed = network.peer(peer), network.identities.open(envelope, sender.peer_id)
        flight.happen(flight.failed)  # Until it is acknowledged, the sender knows of nothing else.
        if not network.is_frozen(sender):
            sent = Flight(sender, flight.generation, flight.arrived)
            for delay_ms in network.copies(sender, receiver, signed):
                network.after(delay_ms, self._land, sent, receiver, signed)

    def _land(self, flight: Flight, receiver: Node, signed: Signed[Any]) -> None:
        network = self._network
        if network.is_frozen(receiver):
            wait_ms = network.frozen_ms(receiver) + network.random.randint(0, THAWED_MS)
            network.after(wait_ms, self._land, flight, receiver, signed)
            return
        if receiver.online and network.rules.acknowledges_early:
            self.acknowledge(flight, receiver)
        super()._land(flight, receiver, signed)

    def acknowledge(self, flight: Flight, receiver: Node) -> None:
        network, sender = self._network, flight.sender
        if not network.drop(receiver.name, sender.name, None):
            for delay_ms in network.fate(receiver, sender, None):
                network.after(delay_ms, flight.happen, flight.arrived)

    def replay(self, node: Node, receiver: Node, signed: Signed[Any]) -> None:
        """Let a message arrive once more."""
        self._land(Flight(node, node.generation), receiver, signed)


class FaultyTransfers(Transfers):
    """Transfers between two nodes that both must be there, and may have dropped the outputs."""

    _network: Any

    def _begin(self, node: Node, wanted: Any) -> None:
        if self._network.reaches(node, self._network.peer(wanted.source)):
            super()._begin(node, wanted)
        else:
            self._begin_again(node, wanted)

    def _end(self, node: Node, wanted: Any, source: Node, generation: int) -> None:
        there = wanted.there
        if isinstance(there, inputs.OutputsFetched):
            keeps = ("provider-lease", there.lease_id) in source.disk.saved
            lost = inputs.OutputsLost(there.lease_id, "the provider has dropped them")
            wanted = wanted if keeps else replace(wanted, there=lost)
        super()._end(node, wanted, source, generation)


class FaultyContainers(ToldContainers):
    """Containers whose rules may be broken."""

    def launch(self, node: Node, wanted: effects.Launch) -> None:
        if not self._world.rules.launches_once:
            node.disk.launched.discard(wanted.lease_id)
        if wanted.lease_id not in node.disk.launched:
            fact = Launched(self._world.now_ms, node.peer_id, wanted.lease_id)
            self._world.history.facts.append(fact)
        super().launch(node, wanted)

    def reap(self, node: Node) -> None:
        if self._world.rules.reaps:
            super().reap(node)

    def _reach_end(self, node: Node, lease_id: LeaseId, container: SimulatedContainer) -> None:
        if not self._world.rules.enforces_budgets:
            container.budget_ms = max(container.budget_ms, self._world.job_ms)
        super()._reach_end(node, lease_id, container)
