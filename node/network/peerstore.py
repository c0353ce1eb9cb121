"""libp2p's data about peers, with limits.

Defects repaired here by subclass: what libp2p stores of a peer (protocols, a signed record of any
size, any number of addresses) has no limit, and strangers choose it; its limit on the number of
peers evicts our own keys first, which breaks the node.

Spec: specs/network.md.
"""

from collections.abc import Callable, Sequence
from typing import Final

from libp2p.crypto.keys import KeyPair
from libp2p.peer.envelope import Envelope
from libp2p.peer.id import ID
from libp2p.peer.peerdata import PeerData
from libp2p.peer.peerstore import PeerRecordState, PeerStore
from multiaddr import Multiaddr

from node.network.addresses import ADDRESSES_PER_PEER_MAX, dialable

PEERS_MAX: Final = 2048
PROTOCOLS_MAX: Final = 64
PROTOCOL_LENGTH_MAX: Final = 128
RECORD_BYTES_MAX: Final = 4096  # Far more than ADDRESSES_PER_PEER_MAX addresses need.

Keeps = Callable[[ID], bool]


class BoundedPeerStore(PeerStore):
    """Stores the most recent peers, and those that it must keep."""

    peer_data_map: "_Recent"

    def __init__(self, key_pair: KeyPair) -> None:
        super().__init__()
        self.key_pair = key_pair
        self.own = ID.from_pubkey(key_pair.public_key)
        self.peer_data_map = _Recent(self.peer_record_map)
        self.guard(lambda _: False)
        self.add_key_pair(self.own, key_pair)

    def guard(self, keeps: Keeps) -> None:
        """Set the peers that must not be evicted, besides ourselves."""
        self.peer_data_map.keeps = lambda peer_id: peer_id == self.own or keeps(peer_id)

    def add_addrs(self, peer_id: ID, addrs: Sequence[Multiaddr], ttl: int = 0) -> None:
        """Store the usable ones of a peer's addresses, as far as there is room.

        DHT answers may contain addresses of other peers. A peer's own report follows
        `clear_addrs`, so there is room for it.
        """
        known = self.peer_data_map.get(peer_id)
        if known is not None and known.is_expired():
            known.clear_addrs()
        old = [] if known is None else known.get_addrs()
        new = [at for at in dict.fromkeys(dialable(addrs)) if at not in old]
        room = max(0, ADDRESSES_PER_PEER_MAX - len(old))
        if new := new[:room]:  # An empty list would renew the old ones.
            super().add_addrs(peer_id, new, ttl)

    def add_protocols(self, peer_id: ID, protocols: Sequence[str]) -> None:
        """Store protocols of a peer; libp2p clears the old ones first."""
        known = self.get_protocols(peer_id) if self.has_peer(peer_id) else []
        both = dict.fromkeys([*known, *protocols])
        self.set_protocols(peer_id, list(both))

    def set_protocols(self, peer_id: ID, protocols: Sequence[str]) -> None:
        """Store the first protocols of a peer."""
        short = [name for name in protocols if len(name) <= PROTOCOL_LENGTH_MAX]
        super().set_protocols(peer_id, short[:PROTOCOLS_MAX])

    def consume_peer_record(self, envelope: Envelope, ttl: int) -> bool:
        """Store a peer's signed record; return whether it is valid, newer, and not too large."""
        if len(envelope.raw_payload) > RECORD_BYTES_MAX:
            return False
        return super().consume_peer_record(envelope, ttl)

    def _enforce_peer_limit(self) -> None:
        """Do nothing: each new peer has already evicted an old one."""


class _Recent(dict[ID, PeerData]):
    """The data of peers, the most recent at the end. A new peer evicts an old one."""

    keeps: Keeps

    def __init__(self, records: dict[ID, PeerRecordState]) -> None:
        super().__init__()
        self._records = records

    def setdefault(self, peer_id: ID, default: PeerData | None = None) -> PeerData:
        """Return the data of a peer with news. Libp2p creates all entries in this way."""
        known = self.pop(peer_id, None)
        if known is None:
            known = default or PeerData()
            self._make_room()
        self[peer_id] = known
        return known

    def _make_room(self) -> None:
        if len(self) < PEERS_MAX:
            return
        for oldest in tuple(self):  # Ends soon: far fewer than PEERS_MAX must be kept.
            known = self.pop(oldest)
            if not self.keeps(oldest):
                self._records.pop(oldest, None)
                return
            self[oldest] = known  # To the end: the next search does not check it again.
