"""Opens the network, and implements its operations.

Spec: specs/network.md.
"""

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import trio
from libp2p.abc import INetStream
from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from node.network import messages, ping, repairs
from node.network.addresses import (
    AddressBook,
    Kind,
    kind_of,
    parse_address,
    parse_announced,
    parse_peer_address,
)
from node.network.bulk import BulkConnections, Endpoints
from node.network.connected_peers import ConnectedPeers, source_of_peer
from node.network.gossip import Gossip, Rule, Screen
from node.network.interface import (
    AddressTaken,
    NetworkConfig,
    Peer,
    PeerEvents,
    RecordRule,
    Tuning,
)
from node.network.libp2p_errors import Escalation, contained, quiet_logging, reaching
from node.network.peering import Peering
from node.network.records import Records, RecordValidator
from node.network.scores import Scores
from node.network.slots import Slots
from node.network.stack import Stack, build_stack, run_stack
from node.network.streams import ByteStream
from node.network.swarm import Admission, host_of
from node.network.traffic import Traffic
from protocol.values.errors import InvalidRequest, PeerFault, PeerUnreachable, Stale, Unavailable
from protocol.values.ids import PeerId

__all__ = ["ByteStream", "Network", "NetworkConfig", "Peer", "PeerEvents", "open_network"]

SEED_BYTES: Final = 32
STREAMS_MAX: Final = 48
"""Streams of one protocol from all peers: fewer than any of our handlers serves."""
STREAMS_PER_SOURCE_MAX: Final = 16
MESSAGE_STREAMS_MAX: Final = 1024
"""Each peer keeps one open; no more than messages.STREAMS_PER_PEER_MAX of 256 connected ones."""
DEFAULT_TUNING: Final = Tuning()

StreamHandler = Callable[[PeerId, ByteStream], Awaitable[None]]


def _any(_peer: PeerId, _data: bytes) -> bool:
    return True


@asynccontextmanager
async def open_network(
    config: NetworkConfig,
    seed: bytes,
    events: PeerEvents,
    record_rule: RecordRule,
    tuning: Tuning = DEFAULT_TUNING,
) -> AsyncIterator["Network"]:
    """Be on the network as the node whose Ed25519 seed (32 bytes) this is.

    Raises InvalidRequest if a configured address is malformed, and AddressTaken if we
    cannot listen. Leaving the context closes every connection, within tuning.close_timeout_ms,
    also when it is left by cancellation.
    """
    assert len(seed) == SEED_BYTES
    repairs.apply()
    quiet_logging()
    listen = [parse_address(text) for text in config.listen]
    book = _book_of(config)
    scores = Scores(tuning.refused_ms)
    async with trio.open_nursery() as nursery:
        escalation = Escalation(nursery)
        validator = RecordValidator(record_rule, escalation)
        admission = Admission(_of_ids(scores.refuses), _of_ids(events.is_known))
        stack = build_stack(config, seed, tuning, admission, validator)
        try:
            taken = await nursery.start(run_stack, stack, listen, tuning)
            if taken is None:
                context = _Context(config, tuning, nursery, escalation, scores)
                network = Network(context, stack, book, validator, events)
                yield network
        finally:
            stack.stopping.set()
            nursery.cancel_scope.cancel()  # All except the stack, which ends in its own order.
    if taken is not None:
        raise AddressTaken(
            f"cannot listen on {taken}: another node runs there, or the address is not ours"
        )


@dataclass(frozen=True, slots=True)
class _Context:
    config: NetworkConfig
    tuning: Tuning
    nursery: trio.Nursery
    escalation: Escalation
    scores: Scores


class Network:
    """The network's interface. Made by open_network; valid while that is open."""

    def __init__(
        self,
        context: _Context,
        stack: Stack,
        book: AddressBook,
        validator: RecordValidator,
        events: PeerEvents,
    ) -> None:
        self.peer_id = PeerId(stack.host.get_id().to_base58())
        self._context = context
        self._stack = stack
        self._book = book
        self._events = events
        self._records = Records(stack.dht, self.peer_id, validator)
        self._peering = Peering(stack, book, context.scores.refuses, context.tuning)
        endpoints = Endpoints(stack.swarm, stack.host.get_addrs)
        self.bulk = BulkConnections(self.open_stream, endpoints, stack.traffic)
        stack.swarm.accept_bulk = self.bulk.accept
        self._requests = messages.Requests(self.open_stream, self.blame, context.tuning)
        self._gossip = Gossip(
            stack.pubsub, context.config.network_name, self.blame, context.escalation
        )
        self._connected = ConnectedPeers(stack.swarm, context.escalation, self._came, self._went)
        context.nursery.start_soon(self._gossip.run)
        context.nursery.start_soon(self._peering.run)

    def addresses(self) -> tuple[str, ...]:
        """Return our listening addresses, as multiaddrs with the real port and our peer id."""
        found = self._stack.host.get_transport_addrs()
        return tuple(f"{address}/p2p/{self.peer_id}" for address in found)

    def announced(self) -> tuple[str, ...]:
        """Return the addresses that we announce: without wildcards, with our peer id."""
        return tuple(str(address) for address in self._stack.host.get_addrs())

    def learn(self, peer: PeerId, addresses: Iterable[str]) -> None:
        """Store where a caller wants its answer.

        Ignored are invalid addresses, addresses of another peer, kinds of addresses (such as
        private ones) of which we announce none, and unconfirmed ones: anybody can name a third
        party's address as its own. An address is confirmed by the peer's connection from there, or
        if we know it already. A peer without any remaining address is looked up in the DHT.
        """
        connection = self._stack.swarm.living(ID.from_base58(peer))
        host = host_of(connection.muxed_conn) if connection else ""
        known = {*self._book.addresses(peer), *self._peering.told(peer)}
        kinds = {Kind.PUBLIC, *map(kind_of, self._stack.host.own_addresses())}
        found: list[Multiaddr] = []
        for text in addresses:
            try:
                named, address = parse_peer_address(text)
            except InvalidRequest:
                continue
            is_confirmed = address in known or str(address).split("/")[2] == host
            if named == peer != self.peer_id and kind_of(address) in kinds and is_confirmed:
                found.append(address)
        self._book.learn_caller(peer, found)

    def traffic(self) -> Traffic:
        """Return what was exchanged with peers so far."""
        return replace(self._stack.traffic)

    def peers(self) -> tuple[Peer, ...]:
        """Return the connected peers."""
        return self._connected.peers()

    def source_of(self, peer: PeerId) -> str:
        """Return the source of a peer's connection: many identities may share one source."""
        return source_of_peer(self._stack.swarm, ID.from_base58(peer))

    # --- requests and streams -------------------------------------------------------------

    async def request(self, peer: PeerId, data: bytes) -> bytes:
        """Send one frame (at most 128 KiB) to a peer and return its answer.

        Requests to one peer are sent in the order of their calls, without waiting for the answers
        to those before. A peer that is not connected is dialled. Raises PeerUnreachable if no
        answer comes within tuning.request_timeout_ms; the request may still have arrived.
        """
        self._stack.traffic.messages_sent += 1
        return await self._requests.request(peer, data)

    def on_request(self, handler: messages.Handler) -> None:
        """Answer requests by the handler; its PeerFault penalises the peer.

        It accepts the requests of a stream one after the other, and several wait for their answers.
        """

        async def counted(peer: PeerId, data: bytes) -> messages.Answer:
            self._stack.traffic.messages_received += 1
            return await handler(peer, data)

        answers = messages.Answers(counted, self._context.tuning)
        per_source = STREAMS_PER_SOURCE_MAX * messages.STREAMS_PER_PEER_MAX
        self._serve_streams(messages.PROTOCOL, answers.serve, MESSAGE_STREAMS_MAX, per_source)

    def on_stream(self, protocol: str, handler: StreamHandler) -> None:
        """Serve the streams that peers open with a protocol, such as "/mutirao/blob/1".

        At most STREAMS_MAX at a time, allocated like connections (slots.py): an evicted stream is
        reset, and its handler cancelled. Otherwise the stream is closed after the handler has
        returned, and reset if it raised. A PeerFault penalises the peer; Stale and Unavailable do
        not; any other exception is a bug and stops the node.
        """
        self._serve_streams(protocol, handler, STREAMS_MAX, STREAMS_PER_SOURCE_MAX)

    async def open_stream(self, peer: PeerId, protocol: str) -> ByteStream:
        """Open a stream with a peer, which is dialled if it is not connected.

        Raises PeerUnreachable if it cannot be reached or does not speak the protocol.
        """
        with reaching(peer), trio.fail_after(self._context.tuning.request_timeout_ms / 1000):
            await self._peering.reach(peer)
            protocols = [TProtocol(protocol)]
            return self._wrap(await self._stack.host.new_stream(ID.from_base58(peer), protocols))

    async def reach(self, peer: PeerId) -> None:
        """Connect with a peer if it is not connected; PeerUnreachable if that does not succeed."""
        with reaching(peer), trio.fail_after(self._context.tuning.request_timeout_ms / 1000):
            await self._peering.reach(peer)

    async def request_anew(self, peer: PeerId, data: bytes) -> bytes:
        """Send one frame over a new connection and return the answer, as `request`.

        A peer that cannot be dialled is asked over a new stream of the connection that exists.
        """
        timeout_s = self._context.tuning.probe_timeout_ms / 1000
        self._stack.traffic.messages_sent += 1
        with trio.move_on_after(timeout_s):
            await self._peering.reach_anew(peer)
        with trio.move_on_after(timeout_s):
            if (stream := await self._open_existing(peer)) is not None:
                return await messages.ask_once(stream, data)
        raise PeerUnreachable(f"{peer} does not answer a probe")

    async def answers(self, peer: PeerId) -> bool:
        """Return whether a connected peer answers within tuning.probe_timeout_ms."""
        with trio.move_on_after(self._context.tuning.probe_timeout_ms / 1000):
            if (stream := await self._open_existing(peer)) is not None:
                await stream.reset()
                return True
        return False

    async def round_trip_us(self, peer: PeerId) -> int:
        """Return the time of a round trip to a peer, in microseconds.

        Raises PeerUnreachable if it does not answer within tuning.probe_timeout_ms; that is little
        for a peer that is not connected.
        """
        with trio.move_on_after(self._context.tuning.probe_timeout_ms / 1000):
            stream = await self.open_stream(peer, ping.PROTOCOL)
            try:
                return await ping.round_trip_us(stream)
            finally:
                await stream.reset()
        raise PeerUnreachable(f"{peer} does not answer a ping")

    async def _open_existing(self, peer: PeerId) -> ByteStream | None:
        """Open a stream over the newest connection; None if there is none or it fails."""
        peer_id = ID.from_base58(peer)
        if self._stack.swarm.living(peer_id) is None:
            return None
        with contained("probe"):
            protocols = [TProtocol(messages.PROTOCOL)]
            return self._wrap(await self._stack.host.new_stream(peer_id, protocols))
        return None

    # --- gossip ---------------------------------------------------------------------------

    def subscribe(self, topic: str, rule: Rule, screen: Screen = _any) -> None:
        """Subscribe to a topic. The rule is called once per message, with the forwarding peer.

        ACCEPT forwards the message, IGNORE discards it, REJECT discards it and penalises the peer;
        after LATER a copy from another peer is judged again. The rule itself passes the message
        on. Our own messages are not judged. The screen is called first, for every copy, before
        any signature is verified; a message that it refuses is discarded.
        """
        self._gossip.subscribe(topic, rule, screen)

    def unsubscribe(self, topic: str) -> None:
        """Unsubscribe from a topic."""
        self._gossip.unsubscribe(topic)

    async def publish(self, topic: str, data: bytes) -> None:
        """Send data (at most 2 KiB) to all subscribers of a topic, if there are any."""
        await self._gossip.publish(topic, data)

    # --- records --------------------------------------------------------------------------

    async def put_record(self, data: bytes) -> bool:
        """Store our own record in the DHT; return whether another node accepted it (in 20 s).

        Each record needs a higher sequence number than the one before.
        """
        return await self._records.put(data)

    async def get_record(self, peer: PeerId) -> bytes | None:
        """Return the newest valid record of a peer that the DHT has, None if none (in 10 s)."""
        return await self._records.get(peer)

    # --- scores ---------------------------------------------------------------------------

    def blame(self, fault: PeerFault) -> None:
        """Penalise a peer; beyond a limit it is disconnected and refused for a while."""
        if self._context.scores.blame(fault):
            self._context.nursery.start_soon(self._disconnect, fault.peer)

    async def _disconnect(self, peer: PeerId) -> None:
        with contained("closing the connections of a peer"):
            await self._stack.swarm.close_peer(ID.from_base58(peer))

    def _serve_streams(
        self, protocol: str, handler: StreamHandler, total: int, per_source: int
    ) -> None:
        slots = Slots(total, per_source, math.inf)  # No turns: streams end soon.

        async def accept(stream: INetStream) -> None:
            # libp2p's task only waits: the handler runs in our nursery, where its bugs are visible.
            done = trio.Event()
            serving = partial(self._serve, handler, self._wrap(stream))
            self._context.nursery.start_soon(self._serve_in_slot, serving, stream, slots, done)
            await done.wait()

        self._stack.host.set_stream_handler(TProtocol(protocol), accept)

    async def _serve_in_slot(
        self,
        serving: Callable[[], Awaitable[None]],
        stream: INetStream,
        slots: Slots,
        done: trio.Event,
    ) -> None:
        muxed = stream.muxed_conn
        is_kept = partial(self._stack.swarm.keeps, muxed.peer_id)
        try:
            with slots.held(host_of(muxed), is_kept) as scope:
                await serving()
            if scope.cancel_called:
                await self._wrap(stream).reset()
        finally:
            done.set()

    async def _serve(self, handler: StreamHandler, stream: ByteStream) -> None:
        try:
            await handler(stream.peer, stream)
            await stream.close()
        except PeerFault as fault:
            await stream.reset()
            self.blame(fault)
        except (Stale, Unavailable):
            await stream.reset()

    def _wrap(self, stream: INetStream) -> ByteStream:
        peer = PeerId(stream.muxed_conn.peer_id.to_base58())
        return ByteStream(stream, peer, self._context.tuning.stream_timeout_ms / 1000)

    def _came(self, peer: PeerId) -> None:
        self._peering.connected(peer)
        self._events.peer_connected(peer)

    def _went(self, peer: PeerId) -> None:
        self._peering.disconnected(peer)
        self._context.nursery.start_soon(self._requests.forget, peer)
        self._events.peer_disconnected(peer)


def _book_of(config: NetworkConfig) -> AddressBook:
    """Check the configured addresses; return an address book with the bootstrap peers."""
    for text in config.announce:
        parse_announced(text)
    book = AddressBook()
    for text in config.bootstrap:
        book.learn_bootstrap(*parse_peer_address(text))
    return book


def _of_ids(rule: Callable[[PeerId], bool]) -> Callable[[ID], bool]:
    """Return the same rule for libp2p's form of a peer id."""
    return lambda peer_id: rule(PeerId(peer_id.to_base58()))
