"""The DHT is our own, and idle streams do not turn it off.

Spec: specs/dht.md.
"""

from libp2p.kad_dht.pb.kademlia_pb2 import Message
from libp2p.kad_dht.routing_table import RoutingTable
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from node.network import kademlia
from node.network.kademlia import (
    STREAMS_MAX,
    STREAMS_PER_PEER_MAX,
    STREAMS_PER_SOURCE_MAX,
    protocol_of,
)
from tests.node.network.fixtures import RecordedEvents, connected_nodes, open_node, until
from tests.node.network.many_peers import open_many_peers, sources


async def test_idle_streams_cost_only_their_peer(patient_dht):
    async with connected_nodes(3) as (a, b, c):
        streams = []
        for _ in range(3 * STREAMS_PER_PEER_MAX):
            streams.append(await b.open_stream(a.peer_id, protocol_of("mutirao")))
        await until(lambda: a._stack.dht._streams[ID.from_base58(b.peer_id)])
        assert len(a._stack.dht._slots) <= STREAMS_PER_PEER_MAX + 1
        record = f"{c.peer_id} 1".encode()
        assert await c.put_record(record)
        assert await a.get_record(c.peer_id) == record


async def answers(a, b):
    """Say whether a node answers another in the DHT."""
    question = Message(type=Message.MessageType.FIND_NODE, key=ID.from_base58(b.peer_id).to_bytes())
    data = question.SerializeToString()
    stream = await b.open_stream(a.peer_id, protocol_of("mutirao"))
    await stream.write(bytes([len(data)]) + data)
    return len(await stream.read_exactly(1)) == 1


async def test_idle_streams_of_a_crowd_do_not_turn_the_dht_off(monkeypatch, patient_dht):
    monkeypatch.setattr(kademlia, "STREAMS_MAX", 8)
    monkeypatch.setattr(kademlia, "STREAMS_PER_SOURCE_MAX", 2)
    async with connected_nodes(2) as (a, b), open_many_peers(a.addresses()[0]) as peers:
        for source in sources(6) * 2:
            await peers.hold(source, protocol_of("mutirao"))
        dht = a._stack.dht
        await until(lambda: len(dht._slots) == 8)
        assert await answers(a, b)
    await until(lambda: not (dht._slots or dht._streams))


async def test_idle_streams_of_strangers_do_not_cost_a_known_peer_at_their_address(
    monkeypatch, patient_dht
):
    monkeypatch.setattr(kademlia, "STREAMS_PER_SOURCE_MAX", 2)
    async with (
        open_node("b") as b,
        open_node("a", b.addresses()[0], events=RecordedEvents({b.peer_id})) as a,
        open_many_peers(a.addresses()[0]) as peers,
    ):
        for _ in range(2):
            await peers.hold("127.0.0.1", protocol_of("mutirao"))
        await until(lambda: a._stack.dht._slots.count("127.0.0.1") >= 2)
        assert await answers(a, b)


def test_several_sources_have_room():
    assert 4 * STREAMS_PER_SOURCE_MAX <= STREAMS_MAX


async def test_our_dht_is_not_the_public_one():
    async with open_node("a") as a:
        protocols = a._stack.host.get_mux().handlers
        assert protocol_of("mutirao") in protocols
        assert not any("/ipfs/kad" in str(protocol) for protocol in protocols)


async def test_connected_nodes_are_in_the_routing_table():
    async with connected_nodes(3) as nodes:
        for node in nodes:
            table = node._stack.dht.routing_table
            await until(lambda table=table: table.size() == 2)


async def test_a_peer_that_does_not_speak_the_public_protocol_is_taken():
    async with open_node("a") as a, open_node("b") as b:
        host, peer = a._stack.host, ID.from_base58(b.peer_id)
        store = host.peerstore
        store.add_addrs(peer, [Multiaddr("/ip4/127.0.0.1/tcp/1")], 60)
        store.add_protocols(peer, [str(protocol_of("mutirao"))])
        assert not await RoutingTable(host.get_id(), host).add_peer(peer)  # Stock.
        assert await a._stack.dht.routing_table.add_peer(peer)


async def test_provider_records_are_not_kept():
    async with open_node("a") as a:
        store = a._stack.dht.provider_store
        store.add_provider(b"key", None)
        assert store.get_providers(b"key") == []
        assert store.size() == {"providers": 0, "keys": 0} or store.providers == {}
