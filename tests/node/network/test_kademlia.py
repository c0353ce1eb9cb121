"""The DHT is our own, and idle streams do not turn it off.

Spec: specs/dht.md.
"""

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
from tests.node.network.devnet import circle, opened, until

SHARE = STREAMS_PER_PEER_MAX + 2


async def test_idle_streams_cost_only_their_peer(patient_dht):
    async with circle(3) as (a, b, c):
        streams = []
        for _ in range(3 * STREAMS_PER_PEER_MAX):
            streams.append(await b.open_stream(a.peer_id, protocol_of("mutirao")))
        await until(lambda: a._stack.dht._streams[ID.from_base58(b.peer_id)])
        assert a._stack.dht._inbound_limiter.borrowed_tokens <= STREAMS_PER_PEER_MAX + 1
        record = f"{c.peer_id} 1".encode()
        assert await c.put_record(record)
        assert await a.get_record(c.peer_id) == record


async def test_idle_streams_cost_only_their_source(monkeypatch, patient_dht):
    monkeypatch.setattr(kademlia, "STREAMS_PER_SOURCE_MAX", SHARE)
    monkeypatch.setattr(kademlia, "_source_of", lambda stream: source(stream.muxed_conn.peer_id))
    sybils = []

    def source(peer_id):
        return "evil" if peer_id.to_base58() in sybils else "good"

    async with circle(4) as (a, b, *others):
        sybils.extend(other.peer_id for other in others)
        for other in others:
            for _ in range(STREAMS_PER_PEER_MAX):
                await other.open_stream(a.peer_id, protocol_of("mutirao"))
        dht = a._stack.dht
        await until(lambda: dht._streams["evil"] == SHARE)
        record = f"{b.peer_id} 1".encode()
        assert await b.put_record(record)
        assert await a.get_record(b.peer_id) == record
        assert dht._streams["evil"] == SHARE < 2 * STREAMS_PER_PEER_MAX
    await until(lambda: not dht._streams)


def test_several_sources_have_room():
    assert 4 * STREAMS_PER_SOURCE_MAX <= STREAMS_MAX


async def test_a_source_is_the_address_of_the_connection(patient_dht):
    async with circle(2) as (a, b):
        stream = await b.open_stream(a.peer_id, protocol_of("mutirao"))
        peer = ID.from_base58(b.peer_id)
        await until(lambda: a._stack.dht._streams[peer] == a._stack.dht._streams["127.0.0.1"] > 0)
        await stream.reset()
        await until(lambda: not a._stack.dht._streams)


async def test_our_dht_is_not_the_public_one():
    async with opened("a") as a:
        protocols = a._stack.host.get_mux().handlers
        assert protocol_of("mutirao") in protocols
        assert not any("/ipfs/kad" in str(protocol) for protocol in protocols)


async def test_connected_nodes_are_in_the_routing_table():
    async with circle(3) as nodes:
        for node in nodes:
            table = node._stack.dht.routing_table
            await until(lambda table=table: table.size() == 2)


async def test_a_peer_that_does_not_speak_the_public_protocol_is_taken():
    async with opened("a") as a, opened("b") as b:
        host, peer = a._stack.host, ID.from_base58(b.peer_id)
        store = host.peerstore
        store.add_addrs(peer, [Multiaddr("/ip4/127.0.0.1/tcp/1")], 60)
        store.add_protocols(peer, [str(protocol_of("mutirao"))])
        assert not await RoutingTable(host.get_id(), host).add_peer(peer)  # Stock.
        assert await a._stack.dht.routing_table.add_peer(peer)


async def test_provider_records_are_not_kept():
    async with opened("a") as a:
        store = a._stack.dht.provider_store
        store.add_provider(b"key", None)
        assert store.get_providers(b"key") == []
        assert store.size() == {"providers": 0, "keys": 0} or store.providers == {}
