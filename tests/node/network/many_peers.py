"""Many identities at many addresses: connections with stock libp2p's Noise and Yamux, and no host.

Spec: specs/network.md#slots.
"""

import socket
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_new_x25519_key_pair
from libp2p.custom_types import TProtocol
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.peer.id import ID
from libp2p.protocol_muxer.multiselect_client import MultiselectClient
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator
from libp2p.security.noise.transport import PROTOCOL_ID, Transport
from libp2p.stream_muxer.yamux import yamux
from libp2p.transport.upgrader import TransportUpgrader

from node.network.libp2p_errors import LIBP2P_ERRORS


class ManyPeers:
    """Identities that connect with one node, each with one open stream."""

    def __init__(self, nursery: trio.Nursery, address: str) -> None:
        self._nursery = nursery
        home, _, name = address.partition("/p2p/")
        self._host, self._port = home.split("/")[2], int(home.split("/")[4])
        self._peer = ID.from_base58(name)
        self._sockets: list[trio.SocketStream] = []
        self._silent: list[socket.socket] = []
        self.connections: list[yamux.Yamux] = []

    @property
    def connected(self) -> int:
        """Return how many connections stand."""
        return sum(not one.event_shutting_down.is_set() for one in self.connections)

    async def connect(self, source: str) -> yamux.Yamux | None:
        """Connect a new identity from a source, an address of loopback; None if it is refused."""
        try:
            with trio.fail_after(60):
                return await self._connect(source)
        except LIBP2P_ERRORS:
            return None

    async def hold(self, source: str, protocol: str) -> yamux.YamuxStream | None:
        """Open a stream under a new identity, and do no more with it; None if it is refused."""
        member = await self.connect(source)
        if member is None:
            return None
        try:
            with trio.fail_after(60):
                stream = await member.open_stream()
                opening = MultiselectCommunicator(stream)
                await MultiselectClient().select_one_of([TProtocol(protocol)], opening)
        except LIBP2P_ERRORS:
            return None
        return stream

    def connect_silently(self, source: str) -> None:
        """Connect, and say nothing."""
        silent = socket.create_connection((self._host, self._port), source_address=(source, 0))
        self._silent.append(silent)

    @staticmethod
    async def ignoring_failures(action: Callable[[Any], Awaitable[None]], argument: object) -> None:
        """Do something that the other may break off."""
        with suppress(*LIBP2P_ERRORS):
            await action(argument)

    def close(self) -> None:
        """Close all connections at once."""
        for stream in self._sockets:
            stream.socket.close()
        for silent in self._silent:
            silent.close()

    async def _connect(self, source: str) -> yamux.Yamux:
        keys = create_new_key_pair()
        noise = Transport(keys, create_new_x25519_key_pair().private_key)
        upgrader = TransportUpgrader(
            {PROTOCOL_ID: noise}, {TProtocol(yamux.PROTOCOL_ID): yamux.Yamux}
        )
        stream = await trio.open_tcp_stream(self._host, self._port, local_address=source)
        self._sockets.append(stream)
        raw = RawConnection(TrioTCPStream(stream), initiator=True)
        secured = await upgrader.upgrade_security(raw, True, self._peer)
        member = await upgrader.upgrade_connection(secured, self._peer)
        self._nursery.start_soon(member.start)
        await member.event_started.wait()
        await member.open_stream()
        self.connections.append(member)
        return member


def sources(count: int, per_site: int = 1) -> list[str]:
    """Return addresses of loopback, so many of each site."""
    return [
        f"127.{9 + n // per_site // 256}.{n // per_site % 256}.{1 + n % per_site}"
        for n in range(count)
    ]


@asynccontextmanager
async def open_many_peers(address: str):
    """A peers that a node at this address has to do with."""
    async with trio.open_nursery() as nursery:
        peers = ManyPeers(nursery, address)
        try:
            yield peers
        finally:
            peers.close()
            nursery.cancel_scope.cancel()
