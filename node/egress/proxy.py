"""The proxy of one job: it checks where a program wants to go, connects, and passes bytes on.

Spec: specs/egress.md#proxy. The name is checked before it is looked up, every address after that,
and the connection goes to an address that was checked.
"""

import logging
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import trio

from node.data.throttle import Throttle
from node.egress.addresses import Address, Networks, address_of, is_open
from node.egress.request import END, HEAD_BYTES_MAX, BadRequest, ProxyRequest, request_of
from protocol.values.egress import covers

LOG: Final = logging.getLogger(__name__)
CONNECTIONS_MAX: Final = 32
"""Connections of one job at a time; further ones wait in the kernel."""
ALL_CONNECTIONS_MAX: Final = 128
"""Connections of all jobs of the node at a time."""
HEAD_S: Final = 10
LOOK_UP_S: Final = 10
CONNECT_S: Final = 10
IDLE_S: Final = 300
"""A connection on which nothing is sent for so long is closed."""
ACCEPT_AGAIN_S: Final = 0.1
PIECE_BYTES: Final = 64 * 1024
DRAIN_S: Final = 2
DRAINED_BYTES: Final = 1024 * 1024
PHRASE_MAX: Final = 120


class EgressRefused(Exception):
    """A request is not carried out; the text says why in one line."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


@dataclass(frozen=True, slots=True)
class Rules:
    """What the owner allows every job."""

    names: tuple[str, ...] = ()
    """The names that jobs may reach, or `any`; empty: none."""
    ports: tuple[int, ...] = (80, 443)
    networks: Networks = ()
    """Addresses that jobs may reach although they are not public."""
    bytes_max: int = 2**40
    """What one job may send and receive."""


@dataclass(slots=True)
class ProxyUse:
    """One use of the proxy, as the log has it."""

    host: str
    port: int
    sent: int = 0
    received: int = 0
    refused: str = ""
    """Why it was refused or ended early; empty if it was not."""


@dataclass(slots=True)
class Proxy:
    """Serves one job from a listening socket in its network namespace."""

    wanted: tuple[str, ...]
    """The names that the job asked for."""
    rules: Rules
    throttle: Throttle
    note: Callable[[ProxyUse], None]
    """Called when a use ends."""
    find: Callable[[str, int], Awaitable[list[Address]]]
    """Looks a name up."""
    shared: trio.Semaphore
    """A place for each connection that is served, of all jobs of the node."""
    used_bytes: int = 0

    async def serve(self, listener: socket.socket) -> None:
        """Serve all connections, until cancelled. The socket is closed at the end."""
        listener.setblocking(False)
        free = trio.Semaphore(CONNECTIONS_MAX)
        with trio.socket.from_stdlib_socket(listener) as accepting:
            async with trio.open_nursery() as nursery:
                while True:
                    await free.acquire()
                    nursery.start_soon(self._serve_one, await _accept(accepting), free)

    async def _serve_one(self, accepted: trio.socket.SocketType, free: trio.Semaphore) -> None:
        try:
            async with trio.SocketStream(accepted) as client, self.shared:
                await self._handle(client)
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError) as error:
            LOG.debug("a job's connection broke: %s", error)
        finally:
            free.release()

    async def _handle(self, client: trio.SocketStream) -> None:
        use = ProxyUse("", 0)
        try:
            request, rest = await _read_request(client)
            use.host, use.port = request.host, request.port
            server = await self._reach(request)
            async with server:
                if not request.head:
                    await client.send_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
                await self._relay(client, server, request.head + rest, use)
        except EgressRefused as refusal:
            use.refused = str(refusal)
            await client.send_all(_answer(refusal.status, str(refusal)))
            await client.send_eof()
            await _drain(client)
        finally:
            if use.host:
                self.note(use)

    async def _reach(self, request: ProxyRequest) -> trio.SocketStream:
        """Return a connection to the server; EgressRefused says why there is none."""
        host, port = request.host, request.port
        if not covers(self.wanted, host):
            raise EgressRefused(403, f"{host} is not among the names that the job asked for")
        if not covers(self.rules.names, host):
            raise EgressRefused(403, f"the owner of this node does not allow {host}")
        if port not in self.rules.ports:
            raise EgressRefused(403, f"port {port} is not allowed; allowed are "
                               f"{', '.join(map(str, self.rules.ports))}")  # fmt: skip
        if self.used_bytes >= self.rules.bytes_max:
            raise EgressRefused(403, f"the job has used its {self.rules.bytes_max >> 20} MiB")
        addresses = await self._look_up(host, port)
        for address in addresses:
            if not is_open(address, self.rules.networks):
                raise EgressRefused(403, f"{host} is at {address}, which is not a public address")
        return await _connect(addresses, request)

    async def _look_up(self, host: str, port: int) -> list[Address]:
        if address := address_of(host):
            return [address]
        with trio.move_on_after(LOOK_UP_S):
            try:
                return await self.find(host, port)
            except (OSError, UnicodeError):
                raise EgressRefused(502, f"{host} has no address") from None
        raise EgressRefused(504, f"the address of {host} was not found within {LOOK_UP_S} s")

    async def _relay(
        self, client: trio.SocketStream, server: trio.SocketStream, first: bytes, use: ProxyUse
    ) -> None:
        """Pass bytes on in both ways, `first` to the server, until both end or one fails."""
        async with trio.open_nursery() as nursery:
            scope = nursery.cancel_scope

            async def copy(source: trio.SocketStream, target: trio.SocketStream) -> None:
                sent = target is server
                piece = first if sent else b""
                try:
                    while piece or (piece := await source.receive_some(PIECE_BYTES)):
                        scope.deadline = trio.current_time() + IDLE_S
                        await self._pass_on(piece, target, use, sent=sent)
                        piece = b""
                    await target.send_eof()
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    scope.cancel()
                except EgressRefused as refusal:  # Too late for an answer.
                    use.refused = str(refusal)
                    scope.cancel()

            scope.deadline = trio.current_time() + IDLE_S
            nursery.start_soon(copy, client, server)
            nursery.start_soon(copy, server, client)

    async def _pass_on(
        self, piece: bytes, target: trio.SocketStream, use: ProxyUse, *, sent: bool
    ) -> None:
        if self.used_bytes + len(piece) > self.rules.bytes_max:
            self.used_bytes = self.rules.bytes_max
            raise EgressRefused(403, f"the job has used its {self.rules.bytes_max >> 20} MiB")
        self.used_bytes += len(piece)
        await self.throttle.pause(len(piece))
        await target.send_all(piece)
        if sent:
            use.sent += len(piece)
        else:
            use.received += len(piece)


async def _accept(listener: trio.socket.SocketType) -> trio.socket.SocketType:
    while True:
        try:
            accepted, _ = await listener.accept()
        except OSError:  # The client is gone, or this process has too many open files.
            await trio.sleep(ACCEPT_AGAIN_S)
        else:
            return accepted


async def _read_request(client: trio.SocketStream) -> tuple[ProxyRequest, bytes]:
    """Return the request, and what came after its head."""
    data = b""
    with trio.move_on_after(HEAD_S):
        while END not in data:
            piece = await client.receive_some(HEAD_BYTES_MAX)
            data += piece
            if not piece or len(data) > HEAD_BYTES_MAX:
                raise EgressRefused(400, f"no head of a request within {HEAD_BYTES_MAX} bytes")
        head, _, rest = data.partition(END)
        try:
            return request_of(head + END), rest
        except BadRequest as fault:
            raise EgressRefused(400, str(fault)) from None
    raise EgressRefused(408, f"no head of a request within {HEAD_S} s")


async def _connect(addresses: list[Address], request: ProxyRequest) -> trio.SocketStream:
    with trio.move_on_after(CONNECT_S):
        for address in addresses:
            family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
            connecting = trio.socket.socket(family, socket.SOCK_STREAM)
            try:
                await connecting.connect((str(address), request.port))
                return trio.SocketStream(connecting)
            except OSError as error:
                LOG.debug("%s is not at %s: %s", request.host, address, error)
                connecting.close()
            except trio.Cancelled:
                connecting.close()
                raise
        raise EgressRefused(
            502, f"{request.host} does not accept connections on port {request.port}"
        )
    raise EgressRefused(504, f"no connection to {request.host} within {CONNECT_S} s")


async def _drain(client: trio.SocketStream) -> None:
    """Read what a program still sends: closed before that, it would not get the answer."""
    left = DRAINED_BYTES
    with trio.move_on_after(DRAIN_S):
        while left > 0 and (piece := await client.receive_some(PIECE_BYTES)):
            left -= len(piece)


def _answer(status: int, why: str) -> bytes:
    """Return an answer with the reason also in its first line, which most programs show."""
    line = f"mutirao: {why}"
    phrase = line.encode("ascii", "replace").decode()[:PHRASE_MAX]
    body = f"{line}\n".encode()
    return (
        f"HTTP/1.1 {status} {phrase}\r\nContent-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    ).encode() + body
