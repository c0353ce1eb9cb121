"""The connected peers: one entry per peer, for any number of connections.

Spec: specs/network.md.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import trio
from libp2p.abc import INetConn, INetStream, INetwork, INotifee
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from node.network.addresses import source_of
from node.network.interface import Direction, Peer
from node.network.libp2p_errors import Escalation
from node.network.muxer import RepairedYamux
from node.network.swarm import RepairedSwarm, host_of
from protocol.values.ids import PeerId

HOSTS_KEPT: Final = 1024  # Every message needs it.
Told = Callable[[PeerId], None]


@dataclass(frozen=True, slots=True)
class _Since:
    address: str
    direction: Direction
    at_s: float


class ConnectedPeers(INotifee):
    """Follows libp2p's connections and reports the first and the last one of each peer."""

    def __init__(
        self, swarm: RepairedSwarm, escalation: Escalation, came: Told, went: Told
    ) -> None:
        self._swarm = swarm
        self._escalation = escalation
        self._came = came
        self._went = went
        self._present: dict[PeerId, _Since] = {}
        swarm.register_notifee(self)

    def peers(self) -> tuple[Peer, ...]:
        """Return the connected peers."""
        now_s = trio.current_time()
        return tuple(
            Peer(peer, since.address, since.direction, int((now_s - since.at_s) * 1000))
            for peer, since in self._present.items()
        )

    async def connected(self, network: INetwork, conn: INetConn) -> None:  # noqa: ARG002
        """Handle libp2p's notification of a new connection."""
        peer = PeerId(conn.muxed_conn.peer_id.to_base58())
        if peer in self._present or self._swarm.living(conn.muxed_conn.peer_id) is None:
            return
        remote = remote_of(conn)
        address = "" if remote is None else str(remote)
        direction: Direction = "in" if is_inbound(conn) else "out"
        self._present[peer] = _Since(address, direction, trio.current_time())
        self._escalation.call(self._came, peer)

    async def disconnected(self, network: INetwork, conn: INetConn) -> None:  # noqa: ARG002
        """Handle libp2p's notification of a closed connection."""
        peer_id: ID = conn.muxed_conn.peer_id
        peer = PeerId(peer_id.to_base58())
        if peer in self._present and self._swarm.living(peer_id) is None:
            del self._present[peer]
            self._escalation.call(self._went, peer)

    async def opened_stream(self, network: INetwork, stream: INetStream) -> None:
        """Not our business."""

    async def closed_stream(self, network: INetwork, stream: INetStream) -> None:
        """Not our business."""

    async def listen(self, network: INetwork, multiaddr: Multiaddr) -> None:
        """Not our business."""

    async def listen_close(self, network: INetwork, multiaddr: Multiaddr) -> None:
        """Not our business."""


def is_inbound(connection: INetConn) -> bool:
    """Return whether the peer dialled."""
    return str(getattr(connection, "direction", "")).lower().endswith("inbound")


def remote_of(connection: INetConn) -> Multiaddr | None:
    """Return the remote end of a connection, None if it is gone."""
    muxed = connection.muxed_conn
    remote = muxed.get_remote_address() if isinstance(muxed, RepairedYamux) else None
    if remote is None:
        return None
    host, port = remote
    return Multiaddr(f"/{'ip6' if ':' in host else 'ip4'}/{host}/tcp/{port}")


@functools.lru_cache(HOSTS_KEPT)
def _source_of_host(host: str) -> str:
    return source_of(host)


def source_of_peer(swarm: RepairedSwarm, peer_id: ID) -> str:
    """Return the source of a peer's connection; all unknown ones share one source."""
    connection = swarm.living(peer_id)
    return "unknown" if connection is None else _source_of_host(host_of(connection.muxed_conn))
