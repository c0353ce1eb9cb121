"""What the rest of the node sees of the network, without importing libp2p.

Spec: specs/network.md.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import trio

from protocol.values.errors import PeerUnreachable, Unavailable
from protocol.values.ids import PeerId


class AddressTaken(Unavailable):
    """An address to listen on is in use by another program."""

    code = "address-taken"


class BulkUnavailable(PeerUnreachable):
    """No direct connection with a peer can be made: use a stream."""


class NoBulk:
    """The bulk connections of a network that has none."""

    async def call(self, peer: PeerId, _work: Any) -> Any:
        """Raise BulkUnavailable."""
        await trio.lowlevel.checkpoint()
        raise BulkUnavailable(f"no direct connection with {peer}")

    async def serve(self, _work: Any, peer: PeerId, _stream: Any) -> None:
        """Raise BulkUnavailable."""
        await self.call(peer, None)


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """A node's listening addresses, bootstrap peers and network name."""

    listen: tuple[str, ...] = ("/ip4/0.0.0.0/tcp/4788",)  # Port 0: any free port.
    bootstrap: tuple[str, ...] = ()  # Multiaddrs that end in /p2p/<peer id>.
    network_name: str = "mutirao"  # Separates gossip topics and the DHT from other networks'.
    announce: tuple[str, ...] = ()  # What to announce, if not the listening addresses.


@dataclass(frozen=True, slots=True)
class Tuning:
    """Durations and limits of the network. The defaults suit a daemon; tests shorten them."""

    ping_every_ms: int = 10_000  # How often a connection is pinged.
    ping_timeout_ms: int = 10_000  # Without an answer within this, the connection is dead.
    write_stall_ms: int = 20_000  # A peer that accepts no byte for so long is disconnected.
    upgrade_timeout_ms: int = 5_000  # A connection is authenticated within this, or closed.
    dial_timeout_ms: int = 5_000  # One address of a peer.
    request_timeout_ms: int = 10_000  # A request, including dialling and waiting.
    probe_timeout_ms: int = 2_000  # A probe: dialling anew, and as long again for the answer.
    stream_timeout_ms: int = 30_000  # One operation on a byte stream.
    handler_timeout_ms: int = 30_000  # Our own answer to a request.
    refused_ms: int = 600_000  # How long a peer with too many faults is refused.
    peering_every_ms: int = 1_000  # How often the node looks after its connections.
    close_timeout_ms: int = 1_500  # How long closing the network may take.
    connections_wanted: int = 16  # The node dials known peers up to this number.
    connections_max: int = 256
    connections_per_source_max: int = 16  # Incoming, of strangers; known peers do not count.
    half_open_max: int = 128  # Connections not yet authenticated.
    half_open_per_source_max: int = 16  # Of these, per source (slots.py).


Direction = Literal["in", "out"]


@dataclass(frozen=True, slots=True)
class Peer:
    """A connected peer."""

    peer_id: PeerId
    address: str  # The remote end as a multiaddr, without the peer id.
    direction: Direction  # Who dialled: "in" the peer, "out" we.
    connected_ms: int  # The duration of the connection.


class PeerEvents(Protocol):
    """Notified of peers that connect and disconnect; knows known peers. Must not block or raise."""

    def peer_connected(self, peer: PeerId) -> None:
        """Handle a peer's first connection."""

    def peer_disconnected(self, peer: PeerId) -> None:
        """Handle the end of a peer's last connection."""

    def is_known(self, peer: PeerId) -> bool:
        """Return whether a peer is known: only strangers' connections are evicted."""


class RecordRule(Protocol):
    """Judges capability records for the DHT. Pure: it may be called often."""

    def sequence(self, peer: PeerId, data: bytes) -> int:
        """Return the sequence number of the peer's record; the highest wins.

        Raises PeerFault or Stale if the record is invalid, another peer's, or expired.
        """


class SizeLimits:
    """Sizes that the network enforces."""

    FRAME_BYTES_MAX: ClassVar[int] = 128 * 1024
    GOSSIP_BYTES_MAX: ClassVar[int] = 2 * 1024
    RECORD_BYTES_MAX: ClassVar[int] = 4 * 1024
