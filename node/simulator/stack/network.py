"""The network of a node of a stack: connections and streams over lines, instead of libp2p.

Requests and their answers are the node's own code (node/network/messages.py), over simulated
streams. Simulated are dialling, the negotiation of a protocol, gossip, and the DHT: a table that
all share, which takes LOOKUP_S to read or write.
Spec: specs/simulation.md#stack.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Protocol, cast
from weakref import WeakValueDictionary

import trio

from node.network import messages
from node.network.gossip import Rule, Screen
from node.network.interface import Direction, NoBulk, Peer, PeerEvents, SizeLimits, Tuning
from node.network.traffic import Traffic
from node.simulator.digest import Digest
from node.simulator.identities import Identities
from node.simulator.network import source_of
from node.simulator.paths import Paths
from node.simulator.stack.clock import TICKS_PER_S
from node.simulator.stack.streams import Line, StackStream, stream_pair
from node.simulator.stack.trio_engine import TrioEngine
from protocol.machines.effects import Settle
from protocol.machines.events import JobEvent
from protocol.machines.inputs import JobSubmitted
from protocol.values.errors import PeerFault, PeerUnreachable, Stale, Unavailable
from protocol.values.ids import JobId, PeerId
from protocol.wire.envelope import claims
from protocol.wire.messages import NUMBER_OF

HANDSHAKES: Final = 3
"""How many half round trips a new connection takes."""
LOOKUP_S: Final = 1.0
"""How long the DHT takes."""
TUNING: Final = Tuning()
StreamHandler = Callable[[PeerId, Any], Awaitable[None]]


class TopicPublisher(Protocol):
    """Brings an announcement to the subscribers of a topic."""

    def publish(self, author: int, topic: str, data: bytes) -> None: ...


class SharedNetwork:
    """What the networks of all nodes share, and what is counted there."""

    def __init__(self, engine: TrioEngine, paths: Paths, identities: Identities) -> None:
        self.engine = engine
        self.paths = paths
        self.identities = identities
        self.gossip: TopicPublisher
        self.networks: dict[PeerId, StackNetwork] = {}
        """Those of the nodes that are there."""
        self.records: dict[PeerId, bytes] = {}
        """The DHT."""
        self.lookups: None = None
        """None are simulated: a node asks for a record, and has it a round trip later."""
        self.sent: Counter[str] = Counter()
        """How many messages were sent over streams, by class."""
        self.digest = Digest()
        self._noted: list[tuple[int, int, int]] = []
        """What nodes got in the tick that was noted last: kind, node, sender."""
        self._noted_at = engine.clock.ticks
        self.nodes: dict[int, Any] = {}
        """All nodes by number, there or not."""
        self.witnesses: list[Callable[[Any, JobId, JobEvent], None]] = []
        """Are told of each event of a job."""
        self.settled: list[Callable[[Settle], None]] = []
        """Are told of each receipt."""
        self.submitted: list[Callable[[Any, JobSubmitted], None]] = []
        """Are told of each job that a user submits."""

    def note(self, kind: int, node: int, peer: int) -> None:
        """Note that a node got something from another."""
        tick = self.engine.clock.ticks
        if tick != self._noted_at:
            self.close_tick()
            self._noted_at = tick
        self._noted.append((kind, node, peer))

    def close_tick(self) -> None:
        """Add what was noted to the digest: in an order that does not depend on trio's."""
        for noted in sorted(self._noted):
            self.digest.note(self._noted_at, *noted)
        self._noted.clear()

    def line(self, sender: int, receiver: int) -> Line:
        """Return the line from one node to another."""
        return Line(self.paths.delay(sender, receiver), self.paths.rate(sender, receiver))


class StackNetwork:
    """What a node sees of the others; see node.network.host.Network, which it replaces."""

    def __init__(
        self, number: int, shared: SharedNetwork, events: PeerEvents, nursery: trio.Nursery
    ) -> None:
        self.number = number
        self.peer_id = shared.identities.peer_of(number)
        self._shared = shared
        self._events = events
        self._nursery = nursery
        self._connected: dict[PeerId, tuple[Direction, float]] = {}
        self._dialled: dict[PeerId, trio.Event] = {}
        self._handlers: dict[str, StreamHandler] = {}
        self._topics: dict[str, tuple[Rule, Screen]] = {}
        self._streams: WeakValueDictionary[int, StackStream] = WeakValueDictionary()
        self._opened = 0
        self._traffic = Traffic()
        self.bulk = NoBulk()
        self._requests = messages.Requests(cast("Any", self.open_stream), self.blame, TUNING)
        shared.networks[self.peer_id] = self

    def close(self) -> None:
        """Go without a word: those that are connected notice it when it comes to them."""
        engine, networks = self._shared.engine, self._shared.networks
        del networks[self.peer_id]
        for stream in tuple(self._streams.values()):
            stream.cut()
        for peer in self._connected:
            other = networks.get(peer)
            if other is not None:
                engine.at(engine.clock.ticks + self._line(peer).delay, other.lose, self.peer_id)
        self._connected.clear()

    # --- addresses and peers --------------------------------------------------------------

    def addresses(self) -> tuple[str, ...]:
        return (f"/ip4/{source_of(self.number)}/tcp/4788/p2p/{self.peer_id}",)

    def announced(self) -> tuple[str, ...]:
        return self.addresses()

    def learn(self, peer: PeerId, addresses: Iterable[str]) -> None:
        """Do nothing: every node can be dialled by its id."""

    def peers(self) -> tuple[Peer, ...]:
        now_s = trio.current_time()
        return tuple(
            Peer(peer, f"/ip4/{self.source_of(peer)}/tcp/4788", way, int(1000 * (now_s - since_s)))
            for peer, (way, since_s) in self._connected.items()
        )

    def source_of(self, peer: PeerId) -> str:
        return source_of(self._shared.identities.number_of(peer))

    def traffic(self) -> Traffic:
        return self._traffic

    def blame(self, fault: PeerFault) -> None:
        """Fail: all nodes of a stack are honest."""
        raise AssertionError(f"an honest node was blamed: {fault}") from fault

    # --- connections ----------------------------------------------------------------------

    async def reach(self, peer: PeerId) -> None:
        """Connect with a peer if it is not connected; PeerUnreachable if it is away."""
        await trio.lowlevel.checkpoint()
        while peer not in self._connected and peer in self._dialled:
            await self._dialled[peer].wait()
        if peer in self._connected:
            return
        self._dialled[peer] = trio.Event()
        try:
            await self._dial(peer)
        finally:
            self._dialled.pop(peer).set()

    async def _dial(self, peer: PeerId) -> None:
        if peer not in self._shared.networks:
            await trio.sleep(TUNING.dial_timeout_ms / 1000)
            raise PeerUnreachable(f"no address of {peer} answers")
        await self._shared.engine.sleep(HANDSHAKES * self._line(peer).delay)
        other = self._shared.networks.get(peer)
        if other is None:
            raise PeerUnreachable(f"{peer} has gone")
        other.meet(self.peer_id, "in")
        self.meet(peer, "out")

    def meet(self, peer: PeerId, way: Direction) -> None:
        """Be connected with a peer."""
        if peer not in self._connected:
            self._connected[peer] = way, trio.current_time()
            self._events.peer_connected(peer)

    def lose(self, peer: PeerId) -> None:
        """Be connected with a peer no more."""
        if self._connected.pop(peer, None) is not None:
            self._events.peer_disconnected(peer)

    # --- streams --------------------------------------------------------------------------

    def on_stream(self, protocol: str, handler: StreamHandler) -> None:
        self._handlers[protocol] = handler

    async def open_stream(self, peer: PeerId, protocol: str) -> StackStream:
        """Open a stream with a peer: a round trip, after dialling if need be."""
        with _in_time(peer, TUNING.request_timeout_ms):
            await self.reach(peer)
            return await self._open(peer, protocol)

    async def _open(self, peer: PeerId, protocol: str) -> StackStream:
        engine, to, back = self._shared.engine, self._line(peer), self._line_from(peer)
        ours, theirs = stream_pair(engine, (self.peer_id, to), (peer, back))
        self._keep(ours)
        answered = trio.Event()

        def let_serve() -> None:
            other = self._shared.networks.get(peer)
            if other is None:
                theirs.cut()
            else:
                other.serve(protocol, theirs)
            engine.at(engine.clock.ticks + back.delay, answered.set)

        engine.at(engine.clock.ticks + to.delay, let_serve)
        await answered.wait()
        if ours.is_broken:
            raise PeerUnreachable(f"{peer} has gone, or does not speak {protocol}")
        return ours

    def serve(self, protocol: str, stream: StackStream) -> None:
        """Serve a stream that a peer has opened."""
        handler = self._handlers.get(protocol)
        if handler is None:
            stream.cut()
        else:
            self._keep(stream)
            self._nursery.start_soon(self._serve, handler, stream)

    async def _serve(self, handler: StreamHandler, stream: StackStream) -> None:
        try:
            await handler(stream.peer, stream)
            await stream.close()
        except PeerFault as fault:
            self.blame(fault)
        except (Stale, Unavailable):
            await stream.reset()

    def _keep(self, stream: StackStream) -> None:
        self._opened += 1
        self._streams[self._opened] = stream

    def _line(self, peer: PeerId) -> Line:
        return self._shared.line(self.number, self._shared.identities.number_of(peer))

    def _line_from(self, peer: PeerId) -> Line:
        return self._shared.line(self._shared.identities.number_of(peer), self.number)

    # --- requests -------------------------------------------------------------------------

    def on_request(self, handler: messages.Handler) -> None:
        async def counted(peer: PeerId, data: bytes) -> messages.Answer:
            self._traffic.messages_received += 1
            self._note(peer, data)
            return await handler(peer, data)

        self.on_stream(messages.PROTOCOL, cast("Any", messages.Answers(counted, TUNING)).serve)

    async def request(self, peer: PeerId, data: bytes) -> bytes:
        """Send a frame and return the answer; PeerUnreachable if none comes in time."""
        self._count(data)
        return await self._requests.request(peer, data)

    async def request_anew(self, peer: PeerId, data: bytes) -> bytes:
        """Send a frame over a stream of its own, and return the answer; errors as `request`."""
        self._count(data)
        with _in_time(peer, TUNING.probe_timeout_ms):
            await self.reach(peer)
        with _in_time(peer, TUNING.probe_timeout_ms):
            stream: Any = await self._open(peer, messages.PROTOCOL)
            return await messages.ask_once(stream, data)

    async def answers(self, peer: PeerId) -> bool:
        """Return whether a connected peer answers."""
        await self._shared.engine.sleep(2 * self._line(peer).delay)
        return peer in self._connected

    async def round_trip_us(self, peer: PeerId) -> int:
        """Return a round trip to a peer in microseconds; PeerUnreachable if it is away."""
        with _in_time(peer, TUNING.probe_timeout_ms):
            await self.reach(peer)
        began = self._shared.engine.clock.ticks
        await self._shared.engine.sleep(self._line(peer).delay + self._line_from(peer).delay)
        return (self._shared.engine.clock.ticks - began) * 1_000_000 // TICKS_PER_S

    def _count(self, data: bytes) -> None:
        self._traffic.messages_sent += 1
        claimed = claims(data)
        assert claimed is not None, "a node sends messages alone"
        self._shared.sent[claimed[0].__name__] += 1

    def _note(self, peer: PeerId, data: bytes) -> None:
        claimed = claims(data)
        assert claimed is not None, "a node sends messages alone"
        number = self._shared.identities.number_of(peer)
        self._shared.note(NUMBER_OF[claimed[0]], self.number, number)

    # --- gossip ---------------------------------------------------------------------------

    def subscribe(self, topic: str, rule: Rule, screen: Screen) -> None:
        self._topics[topic] = rule, screen

    def unsubscribe(self, topic: str) -> None:
        self._topics.pop(topic, None)

    async def publish(self, topic: str, data: bytes) -> None:
        """Gossip an announcement."""
        assert len(data) <= SizeLimits.GOSSIP_BYTES_MAX
        await trio.lowlevel.checkpoint()
        self._traffic.gossip_sent += 1
        self._shared.gossip.publish(self.number, topic, data)

    def hear(self, topic: str, author: PeerId, data: bytes) -> None:
        """Take an announcement, as the author's first copy."""
        self._traffic.gossip_received += 1
        if topic in self._topics:
            rule, screen = self._topics[topic]
            if screen(author, data):
                self._note(author, data)
                rule(author, data)

    # --- records --------------------------------------------------------------------------

    async def put_record(self, data: bytes) -> bool:
        """Store the own record in the DHT."""
        await trio.sleep(LOOKUP_S)
        self._shared.records[self.peer_id] = data
        return True

    async def get_record(self, peer: PeerId) -> bytes | None:
        """Look up a record in the DHT; None if it is not there."""
        await trio.sleep(LOOKUP_S)
        return self._shared.records.get(peer)


@contextmanager
def _in_time(peer: PeerId, timeout_ms: int) -> Iterator[None]:
    try:
        with trio.fail_after(timeout_ms / 1000):
            yield
    except trio.TooSlowError:
        raise PeerUnreachable(f"{peer} did not answer in time") from None
