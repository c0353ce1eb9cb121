"""An answer of the DHT that is too long is not read. Spec: specs/dht.md#limits."""

import varint
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.kad_dht import peer_routing
from libp2p.kad_dht.pb.kademlia_pb2 import Message
from libp2p.kad_dht.peer_routing import PeerRouting
from libp2p.kad_dht.routing_table import RoutingTable
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStore

from node.network import repairs
from node.network.repairs.dht_messages import MESSAGE_BYTES_MAX

HOST_AND_PORT = 7  # Bytes of an IPv4 address with a TCP port.


class Answer:
    """A stream on which a peer answers with these bytes; it counts those that were read."""

    def __init__(self, data: bytes) -> None:
        self.data, self.read_bytes = data, 0

    async def read(self, size: int) -> bytes:
        piece = self.data[self.read_bytes : self.read_bytes + size]
        self.read_bytes += len(piece)
        return piece

    async def write(self, data: bytes) -> None:
        """Take the question."""

    async def close(self) -> None:
        """Be closed."""

    reset = close


class Host:
    """As much of a host as a question needs."""

    def __init__(self, answer: Answer) -> None:
        self.answer, self.store = answer, PeerStore()

    def get_id(self) -> ID:
        return new_peer()

    def get_peerstore(self) -> PeerStore:
        return self.store

    def get_connected_peers(self) -> list[ID]:
        return []

    async def new_stream(self, *_: object) -> Answer:
        return self.answer


def new_peer() -> ID:
    return ID.from_pubkey(create_new_key_pair().public_key)


def answer_of(addresses: int) -> Answer:
    message = Message(type=Message.MessageType.FIND_NODE)
    peer = message.closerPeers.add(id=new_peer().to_bytes())
    for number in range(addresses):
        peer.addrs.append(bytes([4, 9, *number.to_bytes(3), 6, 0, 1]))
    raw = message.SerializeToString()
    return Answer(varint.encode(len(raw)) + raw)


async def found_in(answer: Answer, monkeypatch) -> list[ID]:
    monkeypatch.setattr(peer_routing, "env_to_send_in_RPC", lambda _: (b"", False))
    host = Host(answer)
    routing = PeerRouting(host, RoutingTable(new_peer(), host))
    return await routing._query_peer_for_closest(new_peer(), b"key")


async def test_an_answer_of_any_use_is_read_and_a_longer_one_is_not(monkeypatch):
    repairs.apply()
    assert len(await found_in(answer_of(20), monkeypatch)) == 1
    flood = answer_of(MESSAGE_BYTES_MAX // HOST_AND_PORT)
    assert not await found_in(flood, monkeypatch)
    assert flood.read_bytes < 16, "its length says enough"
