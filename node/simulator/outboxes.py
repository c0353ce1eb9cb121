"""The messages between two simulated nodes: each takes its time, and is sent until it arrives.

What a node must not lose waits on its disk and is sent again after it has come back. A message that
does not arrive is sent again after a pause that doubles; every message has its own, where a real
node has one for each peer. A message connects its two nodes if they are not.
Spec: specs/core.md#outbox.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from node.simulator.engine import Engine
from node.simulator.identities import Identities
from node.simulator.node import SimulatedNode
from protocol.machines import effects, inputs
from protocol.values.ids import PeerId
from protocol.wire.envelope import Signed

LOST: Final = -1
RESEND_MS: Final = 600
"""How long a sender waits before it sends a message again that did not arrive."""
RESEND_MS_MAX: Final = 20_000
NO_ROW: Final = 0
"""That of a message which is sent only once."""


class StreamPaths(Protocol):
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


class MessageNetwork(Protocol):
    """What outboxes need of the network that they are in."""

    engine: Engine
    processing: int
    """The ticks that a node is busy with each message."""
    identities: Identities
    links: StreamPaths

    @property
    def now_ms(self) -> int: ...

    def peer(self, peer: PeerId) -> SimulatedNode | None:
        """Return a node by its id; None if it has gone and did nothing before."""

    def connect(self, one: SimulatedNode, other: SimulatedNode) -> None:
        """Connect two nodes that are not connected."""

    def hear(self, node: SimulatedNode, signed: Signed[Any], sender: int) -> None:
        """Give a node a message."""

    def give(self, node: SimulatedNode, event: inputs.Input) -> None:
        """Give a node an input."""

    def at(
        self, ticks: int, node: SimulatedNode, call: Callable[..., object], *arguments: Any
    ) -> None:
        """Call something so many ticks from now, unless the node has gone meanwhile."""

    def occupy(self, node: SimulatedNode) -> int:
        """Let a node process one thing more; return the ticks until it has."""

    def later(
        self, delay_ms: int, node: SimulatedNode, call: Callable[..., object], *arguments: Any
    ) -> None:
        """Call something after a while, unless the node has gone meanwhile."""


@dataclass(frozen=True, slots=True)
class Flight:
    """A message on its way. What is to happen when it has arrived or not happens to its sender."""

    sender: SimulatedNode
    generation: int
    """How often the sender had gone before."""
    arrived: Callable[[], object] | None = None
    failed: Callable[[], object] | None = None

    def happen(self, call: Callable[[], object] | None) -> None:
        """Let something happen to the sender, unless it has gone since it sent the message."""
        if call is not None and self.sender.generation == self.generation:
            call()


class Outboxes:
    """Sends the messages of all nodes."""

    def __init__(self, network: MessageNetwork) -> None:
        self._network = network
        self.sent: Counter[str] = Counter()
        """How many messages were sent, by class; a repeated one counts again."""

    def store(self, node: SimulatedNode, effect: effects.Send) -> int:
        """Keep a message that is to be sent until it arrives; return its row."""
        if effect.until_ms == 0:
            return NO_ROW
        node.rows += 1
        outbox = node.disk.outbox if effect.durable else node.in_memory
        outbox[node.rows] = (effect.peer, effect.envelope, effect.until_ms)
        return node.rows

    def send(self, node: SimulatedNode, effect: effects.Send, row: int) -> None:
        """Send a message once, or that of a row until it arrives."""
        if row == NO_ROW:
            self._fly(Flight(node, node.generation), effect.peer, effect.envelope)
        else:
            self._transmit(node, row, RESEND_MS)

    def resume(self, node: SimulatedNode) -> None:
        """Send all again that a node has on its disk."""
        for row in tuple(node.disk.outbox):
            self._transmit(node, row, RESEND_MS)

    def probe(self, node: SimulatedNode, effect: effects.ProbePeer) -> None:
        """Ask a peer whether it is there, until it answers."""
        network = self._network

        def answer() -> None:
            other = network.peer(effect.peer)
            assert other is not None
            back = network.links.delay(other.number, node.number)
            if back != LOST:
                network.at(back, node, network.give, node, inputs.PeerAnswered(effect.peer))

        def ask_again() -> None:
            if network.now_ms - node.behind_ms + RESEND_MS < effect.until_ms:
                network.later(RESEND_MS, node, self.probe, node, effect)

        flight = Flight(node, node.generation, answer, ask_again)
        self._fly(flight, effect.peer, effect.envelope)

    def _transmit(self, node: SimulatedNode, row: int, pause_ms: int) -> None:
        """Send a stored message; again after a pause as long as it does not arrive."""
        outbox = node.disk.outbox if row in node.disk.outbox else node.in_memory
        if row not in outbox:
            return
        peer, envelope, until_ms = outbox[row]
        if self._network.now_ms - node.behind_ms > until_ms:
            del outbox[row]
            return

        def repeat() -> None:
            following_ms = min(2 * pause_ms, RESEND_MS_MAX)
            self._network.later(pause_ms, node, self._transmit, node, row, following_ms)

        flight = Flight(node, node.generation, lambda: outbox.pop(row, None), repeat)
        self._fly(flight, peer, envelope)

    def _fly(self, flight: Flight, peer: PeerId, envelope: bytes) -> None:
        sender, receiver = flight.sender, self._network.peer(peer)
        if receiver is None or not receiver.online:
            flight.happen(flight.failed)
            return
        signed = self._network.identities.open(envelope, sender.peer_id)
        self.sent[type(signed.message).__name__] += 1
        delay = self.delay(sender, receiver, signed)
        if delay == LOST:
            flight.happen(flight.failed)
        else:
            land = self._process if self._network.processing else self._land
            self._network.engine.after(delay, land, flight, receiver, signed)

    def _process(self, flight: Flight, receiver: SimulatedNode, signed: Signed[Any]) -> None:
        """Let a message that has arrived wait until its receiver has processed it."""
        ticks = self._network.occupy(receiver)
        self._network.engine.after(ticks, self._land, flight, receiver, signed)

    def delay(self, sender: SimulatedNode, receiver: SimulatedNode, signed: Signed[Any]) -> int:
        """Return the ticks that a message takes; LOST if it does not arrive."""
        return self._network.links.delay(sender.number, receiver.number)

    def acknowledge(self, flight: Flight, receiver: SimulatedNode) -> None:
        """Tell the sender of a message that it has arrived and what follows is on the disk."""
        flight.happen(flight.arrived)

    def _land(self, flight: Flight, receiver: SimulatedNode, signed: Signed[Any]) -> None:
        """Give the receiver a message, and acknowledge it."""
        sender = flight.sender
        if receiver.online:
            if sender.peer_id not in receiver.core.connected:
                self._network.connect(sender, receiver)
            self._network.hear(receiver, signed, sender.number)
        if receiver.online:  # It may go in the step.
            self.acknowledge(flight, receiver)
        else:
            flight.happen(flight.failed)
