"""A network of simulated nodes without anything that happens by itself: tests pull the strings.

Spec: specs/simulation.md#nodes.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from node.simulator.engine import TICKS_PER_MS, Engine
from node.simulator.identities import Numbers
from node.simulator.network import START_MS
from node.simulator.node import SimulatedNode
from node.simulator.outboxes import LOST
from protocol.core.core import Core
from protocol.machines import inputs
from protocol.machines.context import Policy
from protocol.values.ids import PeerId
from protocol.wire.envelope import Signed

DELAY_MS = 7
BYTES_PER_MS = 1_000


class FakeNetwork:
    """Notes what nodes are given and hear; a message takes DELAY_MS."""

    def __init__(self, nodes: int = 3) -> None:
        self.engine = Engine()
        self.identities = Numbers(0)
        self.links = self
        self.processing = 0
        self.nodes = {number: self._make(number) for number in range(nodes)}
        self.unmade: set[int] = set()
        """Nodes that have gone and did nothing before."""
        self.given: list[tuple[int, int, inputs.Input]] = []
        """When, to whom, and what."""
        self.heard: list[tuple[int, int, int, Any]] = []
        """When, by whom, from whom, and what."""
        self.lost: defaultdict[int, int] = defaultdict(int)
        """How many of the next messages of a node are lost."""

    @property
    def now_ms(self) -> int:
        return START_MS + self.engine.now // TICKS_PER_MS

    @property
    def past_ms(self) -> int:
        return self.now_ms - START_MS

    def run(self, duration_ms: int) -> None:
        self.engine.run(self.engine.now + duration_ms * TICKS_PER_MS)

    def go(self, number: int) -> None:
        node = self.nodes[number]
        node.online, node.generation = False, node.generation + 1
        node.in_memory.clear()

    def come_back(self, number: int) -> None:
        self.nodes[number].online = True

    # What simulated nodes need of their network.

    def peer(self, peer: PeerId) -> SimulatedNode | None:
        number = self.identities.number_of(peer)
        return None if number in self.unmade else self.nodes[number]

    def connect(self, one: SimulatedNode, other: SimulatedNode) -> None:
        assert one.online or other.online
        one.core.connected[other.peer_id] = other.core.connected[one.peer_id] = ""

    def give(self, node: SimulatedNode, event: inputs.Input) -> None:
        if node.online:
            self.given.append((self.past_ms, node.number, event))

    def hear(self, node: SimulatedNode, signed: Signed[Any], sender: int) -> None:
        assert node.online
        self.heard.append((self.past_ms, node.number, sender, signed.message))

    def at(
        self, ticks: int, node: SimulatedNode, call: Callable[..., object], *arguments: Any
    ) -> None:
        generation = node.generation
        self.engine.after(
            ticks, lambda: call(*arguments) if node.generation == generation else None
        )

    def later(
        self, delay_ms: int, node: SimulatedNode, call: Callable[..., object], *arguments: Any
    ) -> None:
        self.at(delay_ms * TICKS_PER_MS, node, call, *arguments)

    def process(self, node: SimulatedNode, call: Callable[..., object], *arguments: Any) -> None:
        call(*arguments)

    def occupy(self, node: SimulatedNode) -> int:
        node.busy_until = max(self.engine.now, node.busy_until) + self.processing
        return node.busy_until - self.engine.now

    # The links.

    def delay(self, sender: int, receiver: int) -> int:
        if self.lost[sender]:
            self.lost[sender] -= 1
            return LOST
        return DELAY_MS * TICKS_PER_MS

    def transfer(self, sender: int, receiver: int, size: int) -> int:
        return size // BYTES_PER_MS * TICKS_PER_MS

    def round_trip_us(self, one: int, other: int) -> int:
        return 2 * DELAY_MS * 1000

    def _make(self, number: int) -> SimulatedNode:
        return SimulatedNode(number, Policy(), Core(self.identities.signer(number), Policy()))
