"""libp2p's DHT, separate from the public one and always open to all peers.

Defects repaired here by subclass: twelve idle streams of any peer disable the DHT; provider
records, which we do not use, are stored for anybody; a peer that does not speak the public protocol
does not enter the routing table; a peer with any known address is not looked up, although it may
have moved.

Spec: specs/dht.md.
"""

import math
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import trio
from libp2p.abc import IHost, INetStream
from libp2p.custom_types import TProtocol
from libp2p.kad_dht.common import PROTOCOL_ID
from libp2p.kad_dht.kad_dht import DHTMode, KadDHT
from libp2p.kad_dht.peer_routing import PeerRouting
from libp2p.kad_dht.provider_store import ProviderStore
from libp2p.kad_dht.routing_table import RoutingTable
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from libp2p.peer.peerstore import PeerStoreError
from libp2p.records.validator import NamespacedValidator, Validator

from node.network.addresses import ADDRESSES_PER_PEER_MAX, dialable
from node.network.libp2p_errors import contained
from node.network.slots import Slots
from node.network.swarm import host_of

PUBLIC_PROTOCOL: Final[TProtocol] = PROTOCOL_ID
NAMESPACE: Final = "mutirao"
STREAMS_MAX: Final = 64
STREAMS_PER_PEER_MAX: Final = 8
STREAMS_PER_SOURCE_MAX: Final = 16  # Identities cost nothing, IP addresses do.
STREAM_S: Final = 20.0  # A stream of the DHT carries a few messages and ends.


def protocol_of(network_name: str) -> TProtocol:
    """Return the protocol id of a network's own DHT."""
    return TProtocol(f"/mutirao/{network_name}/kad/1.0.0")


class RepairedKademlia(KadDHT):
    """A DHT server of our own namespace. The host renames its protocol (stack.py)."""

    def __init__(self, host: IHost, validator: Validator, is_known: Callable[[ID], bool]) -> None:
        super().__init__(
            host,
            DHTMode.SERVER,
            validator=NamespacedValidator({NAMESPACE: validator}, strict_validation=True),
            validator_changed=True,
            strict_validation=True,
        )
        self._inbound_limiter = trio.CapacityLimiter(math.inf)  # Slots do its work.
        self._is_known = is_known
        self._streams: Counter[ID] = Counter()
        # Streams end soon by themselves: there are no turns within a site.
        self._slots = Slots(STREAMS_MAX, STREAMS_PER_SOURCE_MAX, math.inf)
        self.routing_table = _OpenRoutingTable(self.local_peer_id, host)
        self.peer_routing = PeerRouting(host, self.routing_table)
        self.provider_store = _NoProviders(host, self.peer_routing)

    async def find_peer(self, peer_id: ID) -> PeerInfo | None:
        """Ask the network for a peer's addresses, and return all answers.

        Libp2p returns known addresses instead if there are any, and these may be outdated.
        """
        await self.peer_routing.find_closest_peers_network(peer_id.to_bytes())
        try:
            return PeerInfo(peer_id, self.host.get_peerstore().addrs(peer_id))
        except PeerStoreError:
            return None

    async def handle_stream(self, stream: INetStream) -> None:
        """Serve a stream of a peer for a while."""
        peer_id = stream.muxed_conn.peer_id
        is_served = self._streams[peer_id] < STREAMS_PER_PEER_MAX and await self._serve(stream)
        if not is_served:
            with contained("reset of a DHT stream"):
                await stream.reset()

    async def _serve(self, stream: INetStream) -> bool:
        """Serve a stream to its end; return whether it ended by itself."""
        muxed = stream.muxed_conn
        is_known = partial(self._is_known, muxed.peer_id)
        self._streams[muxed.peer_id] += 1
        try:
            with (
                self._slots.held(host_of(muxed), is_known) as scope,
                contained("DHT stream") as serving,
            ):
                scope.deadline = trio.current_time() + STREAM_S
                await super().handle_stream(stream)
        finally:
            self._streams -= Counter([muxed.peer_id])  # Removes entries of 0.
        return not (serving.failed or scope.cancel_called)


class _OpenRoutingTable(RoutingTable):
    """Accepts peers whatever protocols libp2p knows of them: it would look for the public one."""

    async def add_peer(
        self,
        peer_obj: PeerInfo | ID,
        skip_server_mode_check: bool = False,  # noqa: FBT001, FBT002
    ) -> bool:
        del skip_server_mode_check
        if isinstance(peer_obj, PeerInfo):  # From an answer, with any number of addresses.
            few = dialable(peer_obj.addrs)[:ADDRESSES_PER_PEER_MAX]
            peer_obj = PeerInfo(peer_obj.peer_id, few)
        return await super().add_peer(peer_obj, skip_server_mode_check=True)


class _NoProviders(ProviderStore):
    """Stores no provider records."""

    def add_provider(self, key: bytes, provider: PeerInfo) -> None:
        """Discard it at once."""

    def get_providers(self, key: bytes) -> list[Any]:  # noqa: ARG002
        """Return none."""
        return []
