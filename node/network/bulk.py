"""Bulk connections: large transfers over TLS 1.3, in worker threads.

A stream of the authenticated connection hands over a ticket: the port, the digest of the
certificate, and a token that is used once. So both sides know with whom they speak. The connection
comes to the port of libp2p: a TLS connection begins with another byte than one of libp2p.

Spec: specs/network.md#bulk-connections.
"""

import hashlib
import secrets
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, Final, Protocol, Self, TypeVar

import trio
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from node.network.bulk_certificate import dialling_context, new_certificate, pin_of
from node.network.bulk_connection import BulkConnection, in_thread, reaching
from node.network.connected_peers import is_inbound, remote_of
from node.network.interface import BulkUnavailable
from node.network.swarm import RepairedSwarm
from node.network.traffic import Traffic
from node.network.transport import endpoint_of
from protocol.values.bounded import keep_newest
from protocol.values.errors import PeerUnreachable
from protocol.values.ids import PeerId

__all__ = ["PROTOCOL", "BulkConnection", "BulkConnections", "Endpoints", "Ticket"]

PROTOCOL: Final = "/mutirao/bulk/1"
T = TypeVar("T")
TOKEN_BYTES: Final = 32
UNKNOWN: Final = PeerId("a stranger")
DIAL_S: Final = 5.0
ARRIVAL_S: Final = 15.0
"""How long a ticket is valid."""
AVOIDED_S: Final = 60.0
"""How long no direct connection is tried with a peer for which one failed."""
AVOIDED_MAX: Final = 1024
SERVED_MAX: Final = 48
DIALLED_MAX: Final = 32
"""Connections at a time; each has a thread."""


class Stream(Protocol):
    """What this needs of a stream."""

    async def read_exactly(self, size: int, /) -> bytes:
        """Return exactly so many bytes."""
        ...

    async def write(self, data: bytes, /) -> None:
        """Send the bytes."""
        ...

    async def reset(self) -> None:
        """Break the stream off, both endpoints."""
        ...


@dataclass(frozen=True, slots=True)
class Ticket:
    """What the stream hands over."""

    SIZE: ClassVar[int] = 66
    port: int
    pin: bytes
    token: bytes

    def encode(self) -> bytes:
        """Return the bytes for the stream."""
        return self.port.to_bytes(2) + self.pin + self.token

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the ticket in these bytes."""
        assert len(data) == cls.SIZE
        return cls(int.from_bytes(data[:2]), data[2:34], data[34:])


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a peer can be dialled; `succeeded` is called when it answers there."""

    host: str
    port: int
    succeeded: Callable[[], None] = lambda: None


class Endpoints:
    """Finds where to dial peers: at the address that they are connected from, and no other."""

    def __init__(self, swarm: RepairedSwarm, announced: Callable[[], Sequence[Multiaddr]]) -> None:
        self._swarm = swarm
        self._announced = announced

    def own_port(self) -> int:
        """Return the port for our tickets; 0 if nobody can dial us."""
        return next((endpoint_of(address)[1] for address in self._announced()), 0)

    def to_peer(self, peer: PeerId, port: int) -> Endpoint | None:
        """Return where to dial a peer whose ticket names this port; None if none may be tried."""
        connection = self._swarm.living(ID.from_base58(peer))
        remote = None if connection is None else remote_of(connection)
        if connection is None or remote is None:
            return None
        host, remote_port = endpoint_of(remote)
        if not is_inbound(connection):
            return Endpoint(host, remote_port)  # It has answered there.
        address = Multiaddr(f"/{'ip6' if ':' in host else 'ip4'}/{host}/tcp/{port}")
        dials = self._swarm.dials
        if port == 0 or not dials.begin(address, is_asked=True):
            return None
        return Endpoint(host, port, partial(dials.succeeded, address, is_asked=True))


@dataclass(slots=True)
class _Expected:
    came: trio.Event = field(default_factory=trio.Event)
    tls: ssl.SSLSocket | None = None


class BulkConnections:
    """Both ends of bulk connections. `timeout_s` limits a wait for the peer, for 1 MiB."""

    def __init__(
        self,
        open_stream: Callable[[PeerId, str], Awaitable[Stream]],
        endpoints: Endpoints,
        traffic: Traffic,
        timeout_s: float = 30,
    ) -> None:
        self._open_stream = open_stream
        self._endpoints = endpoints
        self._traffic = traffic
        self._timeout_s = timeout_s
        self._certificate = new_certificate()
        self._context = dialling_context()
        self._expected: dict[bytes, _Expected] = {}  # By digest: no timing tells of a token.
        self._avoided: dict[PeerId, float] = {}
        self._served = trio.CapacityLimiter(SERVED_MAX)
        self._dialled = trio.CapacityLimiter(DIALLED_MAX)
        self._handshakes = trio.CapacityLimiter(SERVED_MAX)

    # --- the holder's side ----------------------------------------------------------------

    async def serve(
        self, work: Callable[[BulkConnection], None], peer: PeerId, stream: Stream
    ) -> None:
        """Hand over a ticket to a peer, and run work on the connection that shows it.

        The stream is open for as long: ending it ends the connection.
        """
        token, expected = secrets.token_bytes(TOKEN_BYTES), _Expected()
        key = hashlib.sha256(token).digest()
        self._expected[key] = expected
        try:
            ticket = Ticket(self._endpoints.own_port(), self._certificate.pin, token)
            await stream.write(ticket.encode())
            with trio.move_on_after(ARRIVAL_S):
                await expected.came.wait()
            if expected.tls is None:
                raise PeerUnreachable(f"{peer} did not make its bulk connection")
            await self._run(expected.tls, peer, work, self._served)
        finally:
            self._expected.pop(key, None)
            if expected.tls is not None:
                expected.tls.close()

    async def accept(self, raw: socket.socket, timeout_s: float) -> None:
        """Take a connection that begins with a TLS handshake; without a ticket it is closed.

        PeerUnreachable if that does not succeed within the time-out.
        """
        with raw:
            raw.settimeout(timeout_s)
            tls, key = await in_thread(raw, self._shake_hands, self._handshakes)
        expected = self._expected.pop(key, None)  # A token is used once.
        if expected is None:
            tls.close()
            raise PeerUnreachable("a bulk connection without a ticket")
        expected.tls = tls
        expected.came.set()

    def _shake_hands(self, raw: socket.socket) -> tuple[ssl.SSLSocket, bytes]:
        """Return the TLS connection, and the digest of the token that it begins with."""
        with ExitStack() as failing:
            tls = self._wrapped(raw, self._certificate.context, failing)
            with reaching(UNKNOWN):
                tls.do_handshake()
                token = tls.recv(TOKEN_BYTES)  # It is sent in one record.
            failing.pop_all()
        return tls, hashlib.sha256(token).digest()

    # --- the fetcher's side ---------------------------------------------------------------

    async def call(self, peer: PeerId, work: Callable[[BulkConnection], T]) -> T:
        """Run work in a thread, on a new connection with a peer, and return its result.

        BulkUnavailable if no direct connection can be made, PeerUnreachable if it breaks, and what
        the work raises.
        """
        if trio.current_time() < self._avoided.get(peer, 0):
            raise BulkUnavailable(f"no direct connection with {peer} was possible")
        stream = await self._open_stream(peer, PROTOCOL)
        try:
            tls = await self._dial(peer, Ticket.decode(await stream.read_exactly(Ticket.SIZE)))
            with tls:
                return await self._run(tls, peer, work, self._dialled)
        finally:
            await stream.reset()

    async def _dial(self, peer: PeerId, ticket: Ticket) -> ssl.SSLSocket:
        endpoint = self._endpoints.to_peer(peer, ticket.port)
        if endpoint is None:
            raise BulkUnavailable(f"no address of {peer} may be dialled")
        try:
            raw = await _connected(endpoint.host, endpoint.port)
            with raw:
                tls = await in_thread(raw, partial(self._show, peer, ticket), self._dialled)
            endpoint.succeeded()
        except (OSError, PeerUnreachable, trio.TooSlowError) as error:
            self._avoided[peer] = trio.current_time() + AVOIDED_S
            keep_newest(self._avoided, AVOIDED_MAX)
            raise BulkUnavailable(f"no direct connection with {peer}: {error}") from None
        return tls

    def _show(self, peer: PeerId, ticket: Ticket, raw: socket.socket) -> ssl.SSLSocket:
        """Return the TLS connection, after its certificate was compared and the token sent."""
        with ExitStack() as failing, reaching(peer):
            tls = self._wrapped(raw, self._context, failing)
            tls.do_handshake()
            if not secrets.compare_digest(pin_of(tls), ticket.pin):
                raise PeerUnreachable(f"another program answers at the address of {peer}")
            tls.sendall(ticket.token)
            failing.pop_all()
        return tls

    # --- both -----------------------------------------------------------------------------

    def _wrapped(
        self, raw: socket.socket, context: ssl.SSLContext, failing: ExitStack
    ) -> ssl.SSLSocket:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        tls = context.wrap_socket(
            raw,
            server_side=context is self._certificate.context,
            do_handshake_on_connect=False,
        )
        failing.callback(tls.close)
        return tls

    async def _run(
        self,
        tls: ssl.SSLSocket,
        peer: PeerId,
        work: Callable[[BulkConnection], T],
        limiter: trio.CapacityLimiter,
    ) -> T:
        connection = BulkConnection(tls, peer, self._timeout_s)
        try:
            return await in_thread(tls, lambda _: work(connection), limiter)
        finally:
            self._traffic.bytes_sent += connection.sent
            self._traffic.bytes_received += connection.received


async def _connected(host: str, port: int) -> socket.socket:
    """Return a TCP connection, for blocking use."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with trio.socket.socket(family, socket.SOCK_STREAM) as raw:
        with trio.fail_after(DIAL_S):
            await raw.connect((host, port))
        connected = socket.socket(fileno=raw.detach())
    connected.settimeout(DIAL_S)
    return connected
