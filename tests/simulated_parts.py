"""What a simulated network of a test is made of: the simulator's parts, which here may fail.

Messages are lost or doubled, images cannot be prepared, containers exit as a test wants, and what
containers do is told. Spec: specs/core.md#driver.
"""

from typing import Any, Final, Protocol

from node.simulator.containers import Containers
from node.simulator.engine import TICKS_PER_MS
from node.simulator.node import SimulatedContainer
from node.simulator.outboxes import LOST, Flight, Outboxes
from node.simulator.transfers import Transfers
from protocol.core.intake import admit
from protocol.machines import effects, inputs
from protocol.values.errors import PeerFault, Stale
from protocol.values.ids import LeaseId, PeerId, digest_of
from protocol.wire.envelope import KeySigner, Signed
from protocol.wire.job import Workload
from protocol.wire.messages import CapabilityRecord, Carrier
from tests.simulated_node import Node
from tests.wording import of_message

NETWORK: Final = "test"
NOBODY: Final = -1
TRANSFER_MS: Final = 20


class Clock(Protocol):
    """Who knows the time."""

    @property
    def now_ms(self) -> int: ...


class NamedKeys:
    """Identities with keys that follow from names. What was signed is verified, once."""

    def __init__(self, clock: Clock) -> None:
        self.opened: dict[bytes, Signed[Any]] = {}
        self._clock = clock
        self._signers: list[KeySigner] = []
        self._numbers: dict[PeerId, int] = {}

    def add(self, name: str) -> KeySigner:
        """Return the signer of the next number."""
        signer = self.make(digest_of(name.encode()))
        self._numbers[signer.peer_id] = len(self._signers)
        self._signers.append(signer)
        return signer

    def make(self, key: bytes) -> KeySigner:
        return KeySigner(key, NETWORK)

    def peer_of(self, number: int) -> PeerId:
        return self._signers[number].peer_id

    def number_of(self, peer: PeerId) -> int:
        return self._numbers.get(peer, NOBODY)

    def signer(self, number: int) -> KeySigner:
        return self._signers[number]

    def open(
        self, envelope: bytes, sender: PeerId, carrier: Carrier = Carrier.STREAM
    ) -> Signed[Any]:
        """Admit an envelope, once only, since that costs most of the test's time."""
        if envelope not in self.opened:
            network_id, now_ms = self._signers[0].network_id, self._clock.now_ms
            try:
                self.opened[envelope] = admit(envelope, sender, carrier, network_id, now_ms)
            except (PeerFault, Stale) as error:
                raise AssertionError(f"an honest message was refused: {error}") from error
        return self.opened[envelope]


class RandomPaths:
    """Messages take any of the network's times, transfers always the same."""

    def __init__(self, network: Any) -> None:
        self._network = network

    def delay(self, sender: int, receiver: int) -> int:
        network = self._network
        delay_ms: int = network.random.randint(*network.delay_ms)
        return delay_ms * TICKS_PER_MS

    def transfer(self, sender: int, receiver: int, size: int) -> int:
        return TRANSFER_MS * TICKS_PER_MS

    def round_trip_us(self, one: int, other: int) -> int:
        nodes = self._network.nodes
        took_us: int = self._network.round_trip_us(nodes[one].name, nodes[other].name)
        return took_us


class UnreliableOutboxes(Outboxes):
    """Loses messages and acknowledgements, and doubles messages."""

    _network: Any

    def delay(self, sender: Node, receiver: Node, signed: Signed[Any]) -> int:
        lost = self._network.loses(sender, receiver, signed.message)
        return LOST if lost else super().delay(sender, receiver, signed)

    def acknowledge(self, flight: Flight, receiver: Node) -> None:
        lost = self._network.loses(receiver, flight.sender, None)
        flight.happen(flight.failed if lost else flight.arrived)

    def _fly(self, flight: Flight, peer: PeerId, envelope: bytes) -> None:
        super()._fly(flight, peer, envelope)
        if self._network.random.random() < self._network.doubled:
            super()._fly(Flight(flight.sender, flight.generation), peer, envelope)

    def _land(self, flight: Flight, receiver: Node, signed: Signed[Any]) -> None:
        if receiver.online and not isinstance(signed.message, CapabilityRecord):
            told = of_message(signed.message, self._network.name_of)
            self._network.say(f"{flight.sender.name} -> {receiver.name}: {told}")
        super()._land(flight, receiver, signed)


class UnreliableTransfers(Transfers):
    """Some providers can prepare nothing, and some requesters serve nothing."""

    _network: Any

    def prepare(self, node: Node, effect: effects.Prepare) -> None:
        network = self._network
        if node.name in network.prepare_fails:
            why = inputs.PrepareFailed(effect.lease_id, "no image")
            network.later(TRANSFER_MS, node, network.give, node, why)
        elif network.name_of(effect.requester) not in network.serves_no_blobs:
            super().prepare(node, effect)


class ToldContainers(Containers):
    """Containers whose jobs all take the same time, and that tell what they do."""

    _world: Any

    def work_of(self, workload: Workload) -> int:
        job_ms: int = self._world.job_ms
        return job_ms

    def launch(self, node: Node, wanted: effects.Launch) -> None:
        assert all(each.digest in self.done_ms for each in wanted.workload.resume)
        if wanted.lease_id not in node.disk.launched:
            self._world.say(f"{node.name}: launches the container")
            node.launched.add(wanted.lease_id)
        super().launch(node, wanted)

    def kill(self, node: Node, wanted: effects.Kill) -> None:
        self._world.after(self._world.stop_ms, super().kill, node, wanted)

    def _pause(self, node: Node, lease_id: LeaseId, container: SimulatedContainer) -> None:
        self._world.say(f"{node.name}: the container is paused")
        super()._pause(node, lease_id, container)

    def _exit(self, node: Node, lease_id: LeaseId, code: int, why: str) -> None:
        if node.containers[lease_id].exited is None:
            self._world.say(f"{node.name}: the container ends ({why})")
        super()._exit(node, lease_id, code or self._world.exit_codes.get(node.name, 0), why)
