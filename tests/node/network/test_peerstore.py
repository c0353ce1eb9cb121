"""What libp2p remembers of peers has a bound, and we ourselves are never forgotten.

Spec: specs/network.md.
"""

import pytest
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStore, create_signed_peer_record
from multiaddr import Multiaddr

from node.network.addresses import ADDRESSES_PER_PEER_MAX
from node.network.peerstore import (
    PEERS_MAX,
    PROTOCOLS_MAX,
    RECORD_BYTES_MAX,
    BoundedPeerStore,
)
from tests.node.network.fixtures import connected_nodes, echo, open_node, seed, until
from tests.node.network.odd_addresses import BYTES

US = create_new_key_pair(seed("us"))
OWN = ID.from_pubkey(US.public_key)
HOME = Multiaddr("/ip4/192.0.2.1/tcp/4788")


def stranger(number):
    return ID(b"\x12\x20" + number.to_bytes(32))


def homes(count):
    return [Multiaddr(f"/ip4/192.0.2.1/tcp/{port}") for port in range(1, count + 1)]


@pytest.fixture
def store():
    return BoundedPeerStore(US)


def fill(store, count):
    for number in range(count):
        store.add_addrs(stranger(number), [HOME], 60)


def test_stock_forgets_its_own_keys_first():
    stock = PeerStore()
    stock.add_key_pair(OWN, US)
    fill(stock, stock.max_peers + 1)
    with pytest.raises(KeyError):
        stock.privkey(OWN)


def test_ours_does_not(store):
    fill(store, PEERS_MAX + 100)
    assert store.privkey(OWN) == US.private_key
    assert len(store.peer_ids()) == PEERS_MAX


@pytest.mark.parametrize("say", ["add_protocols", "set_protocols"])
def test_protocols_do_not_fill_it_either(store, say):
    for number in range(PEERS_MAX + 100):
        getattr(store, say)(stranger(number), ["/x/1"])
    assert len(store.peer_ids()) == PEERS_MAX


def test_the_oldest_of_those_that_are_not_kept_goes(store):
    store.guard(lambda peer_id: peer_id in (stranger(0), stranger(2)))
    fill(store, PEERS_MAX - 1)  # And ourselves: full.
    store.add_addrs(stranger(1), homes(1), 60)  # News of an old one.
    for number in range(PEERS_MAX, PEERS_MAX + 3):
        store.add_addrs(stranger(number), [HOME], 60)
    gone = [number for number in range(PEERS_MAX - 1) if not store.has_peer(stranger(number))]
    assert gone == [3, 4, 5]


def test_a_full_store_of_kept_peers_still_takes_a_new_one(store):
    store.guard(lambda peer_id: True)
    fill(store, PEERS_MAX + 5)
    assert store.has_peer(stranger(PEERS_MAX + 4))


def test_a_peer_has_few_addresses_and_strangers_displace_none(store):
    peer = stranger(1)
    for address in homes(100):
        store.add_addrs(peer, [HOME, address], 60)
    assert store.addrs(peer) == [HOME, *homes(ADDRESSES_PER_PEER_MAX - 1)]
    store.clear_addrs(peer)  # As libp2p does before it takes what the peer tells of itself.
    store.add_addrs(peer, homes(50), 60)
    assert store.addrs(peer) == homes(ADDRESSES_PER_PEER_MAX)


def test_what_cannot_be_dialled_is_not_remembered(store):
    store.add_addrs(stranger(1), [*map(Multiaddr, BYTES), HOME], 60)
    assert store.addrs(stranger(1)) == [HOME]
    store.add_addrs(stranger(2), [Multiaddr(data) for data in BYTES], 60)
    assert not store.has_peer(stranger(2))


def test_dead_addresses_give_way_and_do_not_come_alive_again(store):
    peer = stranger(1)
    store.add_addrs(peer, homes(8), 60)
    store.peer_data_map[peer].last_identified -= 3600
    for nothing in ([], [Multiaddr("/ip4/192.0.2.1/udp/1")]):
        store.add_addrs(peer, nothing, 60)
        assert store.peer_data_map[peer].is_expired()
    store.add_addrs(peer, [HOME], 60)
    assert store.addrs(peer) == [HOME]


def test_a_peer_has_few_protocols(store):
    peer = stranger(1)
    store.add_protocols(peer, [f"/{number}" for number in range(1000)])
    store.add_protocols(peer, ["/x/1", "/0"])
    assert len(store.get_protocols(peer)) == PROTOCOLS_MAX
    store.set_protocols(peer, ["/" + "x" * 200, "/y", "/y"])
    assert "/y" in store.get_protocols(peer)
    assert all(len(name) < 200 for name in store.get_protocols(peer))


def test_the_same_protocol_is_remembered_once(store):
    store.add_protocols(stranger(1), ["/x/1"])
    store.add_protocols(stranger(1), ["/x/1", "/y/1"])
    assert store.get_protocols(stranger(1)) == ["/x/1", "/y/1"]


def test_a_signed_record_goes_with_its_peer_and_is_small(store):
    eve = create_new_key_pair(seed("eve"))
    eve_id = ID.from_pubkey(eve.public_key)
    small = create_signed_peer_record(eve_id, homes(8), eve.private_key)
    large = create_signed_peer_record(eve_id, homes(1000), eve.private_key)
    assert len(large.raw_payload) > RECORD_BYTES_MAX
    assert not store.consume_peer_record(large, 60)
    assert not store.has_peer(eve_id)
    assert store.consume_peer_record(small, 60)
    assert store.get_peer_record(eve_id) == small
    fill(store, PEERS_MAX)
    assert store.get_peer_record(eve_id) is None
    assert not store.peer_record_map


async def test_a_crowd_of_strangers_does_not_displace_connected_peers():
    async with connected_nodes(3) as (a, b, c):
        b.on_request(echo)
        store = a._stack.host.peerstore
        known = [ID.from_base58(node.peer_id) for node in (b, c)]
        await until(lambda: all(store.has_peer(peer) for peer in known))
        fill(store, 2 * PEERS_MAX)
        assert all(store.has_peer(peer) for peer in known)
        assert await a.request(b.peer_id, b"x") == b"x"
        assert a._stack.host.get_private_key() is not None  # It signs every record that we put.


async def test_a_peer_of_the_routing_table_is_kept():
    async with open_node("a") as a:
        store, peer = a._stack.host.peerstore, stranger(10**6)
        store.add_addrs(peer, [HOME], 60)
        assert await a._stack.dht.routing_table.add_peer(peer)
        fill(store, 2 * PEERS_MAX)
        assert store.addrs(peer) == [HOME]
