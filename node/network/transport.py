"""TCP that refuses a port on which another program listens, and leaks no socket.

libp2p listens with SO_REUSEPORT, for hole punching: a second daemon would start without an error
and take half of the first one's connections. It also leaks sockets that are connecting when it
stops, and asks the kernel twice for every frame.

Spec: specs/network.md.
"""

import logging
import socket
from typing import Final

import trio
from libp2p.abc import IRawConnection
from libp2p.custom_types import THandler
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.transport.exceptions import OpenConnectionError
from libp2p.transport.tcp.tcp import TCP, TCPListener
from libp2p.utils.multiaddr_utils import multiaddr_from_socket
from multiaddr import Multiaddr

from node.network.libp2p_errors import contained
from node.network.traffic import Traffic

BACKLOG: Final = 128
RECEIVE_BYTES: Final = 64 * 1024
TLS_HANDSHAKE: Final = b"\x16"
"""The first byte of a TLS connection. Libp2p's first byte is the length of a name, 19."""
LOG: Final = logging.getLogger(__name__)


class ExclusiveTCP(TCP):
    """TCP whose listeners do not share their port. It counts the bytes of its connections."""

    def __init__(self, traffic: Traffic) -> None:
        super().__init__()
        self._open = _Connections(traffic)

    def create_listener(self, handler_function: THandler) -> TCPListener:
        return ExclusiveListener(handler_function, self._open)

    def abort(self) -> None:
        """Close all sockets that are still open, at once."""
        for stream in tuple(self._open.streams):
            stream.stream.socket.close()
        self._open.streams.clear()

    async def _dial_resolved(
        self, maddr: Multiaddr, source: tuple[str, int] | None = None
    ) -> IRawConnection:
        del source  # Only hole punching needs it.
        try:
            stream = await trio.open_tcp_stream(*endpoint_of(maddr))
        except (OSError, ValueError) as error:
            raise OpenConnectionError(f"no connection to {maddr}: {error}") from error
        return RawConnection(TcpStream(stream, self._open), initiator=True)


class _Connections:
    """The open connections, and what passes over them."""

    def __init__(self, traffic: Traffic) -> None:
        self.streams: set[TcpStream] = set()
        self.traffic = traffic


class TcpStream(TrioTCPStream):
    """A connection that is listed as open until it is closed.

    It receives what has arrived at once: libp2p asks for two bytes, then for a few hundred.
    """

    def __init__(self, stream: trio.SocketStream, connections: _Connections) -> None:
        super().__init__(stream)
        self._received = bytearray()
        self._connections = connections
        connections.streams.add(self)

    async def read(self, n: int | None = None) -> bytes:
        if n == 0:
            return b""
        if not self._received:
            self._received += await super().read(RECEIVE_BYTES)
            self._connections.traffic.bytes_received += len(self._received)
        piece = bytes(self._received[:n])
        del self._received[:n]
        return piece

    async def write(self, data: bytes) -> None:
        self._connections.traffic.bytes_sent += len(data)
        await super().write(data)

    async def opens_tls(self) -> bool:
        """Return whether the other side begins with a TLS handshake; the byte stays unread."""
        return await self.stream.socket.recv(1, socket.MSG_PEEK) == TLS_HANDSHAKE

    def detach(self) -> socket.socket:
        """Hand over the socket; this stream is then closed."""
        self._connections.streams.discard(self)
        return socket.socket(fileno=self.stream.socket.detach())

    async def close(self) -> None:
        self._connections.streams.discard(self)
        await super().close()


class ExclusiveListener(TCPListener):
    """Listens on addresses of the form /ip4/…/tcp/… or /ip6/…/tcp/…."""

    def __init__(self, handler_function: THandler, connections: _Connections) -> None:
        super().__init__(handler_function)
        self._connections = connections

    async def listen(self, maddr: Multiaddr) -> None:
        """Listen on one more address; raises OSError if it is in use or not ours."""
        host, port = endpoint_of(maddr)
        listener = trio.SocketListener(await _bound_socket(host, port))
        async with self._lifecycle_lock:
            if self._nursery is None:
                await self._spawn_background_task()
            assert self._nursery is not None
            self._nursery.start_soon(self._accept, listener, self._nursery)
            self.listeners.append(listener)

    def get_addrs(self) -> tuple[Multiaddr, ...]:
        """Return the addresses that still accept: while a node stops, some may be closed."""
        accepting = (one.socket for one in self.listeners if one.socket.fileno() != -1)
        return tuple(multiaddr_from_socket(socket) for socket in accepting)

    async def stop_accepting(self) -> None:
        """Accept no more connections; existing ones stay open."""
        for listener in self.listeners:
            await listener.aclose()
        self.listeners.clear()

    async def _accept(self, listener: trio.SocketListener, handlers: trio.Nursery) -> None:
        try:
            await trio.serve_listeners(self._serve, [listener], handler_nursery=handlers)
        except* trio.ClosedResourceError:
            LOG.debug("no longer listening")

    async def _serve(self, stream: trio.SocketStream) -> None:
        with contained("inbound connection"):
            await self.handler(TcpStream(stream, self._connections))


def endpoint_of(address: Multiaddr) -> tuple[str, int]:
    """Return host and port of a multiaddr; ValueError if it has none."""
    parts = str(address).split("/")
    if len(parts) < 5 or parts[3] != "tcp" or not parts[4].isdigit():
        raise ValueError(f"not a TCP address: {address}")
    return parts[2], int(parts[4])


async def _bound_socket(host: str, port: int) -> trio.socket.SocketType:
    family = trio.socket.AF_INET6 if ":" in host else trio.socket.AF_INET
    bound = trio.socket.socket(family, trio.socket.SOCK_STREAM)
    try:
        # REUSEADDR: a restarted node gets its port back while old connections linger.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        await bound.bind((host, port))
        bound.listen(BACKLOG)
    except OSError:
        bound.close()
        raise
    return bound
