"""A peer comes once and goes once, however many connections it has.

Spec: specs/network.md.
"""

from libp2p.peer.id import ID
from multiaddr import Multiaddr

from node.network.connected_peers import source_of_peer
from tests.node.network.fixtures import RecordedEvents, open_node, tuned, until


async def test_two_connections_are_one_peer():
    events = RecordedEvents()
    quiet = tuned(connections_wanted=0, peering_every_ms=60_000)
    async with (
        open_node("a", events=events, tuning=quiet) as a,
        open_node("b", tuning=quiet) as b,
    ):
        address = Multiaddr(a.addresses()[0].partition("/p2p/")[0])
        peer = ID.from_base58(a.peer_id)
        connections = [await b._stack.swarm.dial_addr(address, peer) for _ in range(2)]
        await until(lambda: len(a._stack.swarm.get_connections()) == 2)
        assert events.seen == [("came", b.peer_id)]
        (seen,) = a.peers()
        assert (seen.peer_id, seen.direction) == (b.peer_id, "in")
        assert seen.address.startswith("/ip4/127.0.0.1/tcp/")
        assert 0 <= seen.connected_ms < 60_000
        guest = ID.from_base58(b.peer_id)
        assert source_of_peer(a._stack.swarm, guest) == "127.0.0.1"
        await connections[0].close()
        await until(lambda: len(a._stack.swarm.get_connections()) == 1)
        assert events.seen == [("came", b.peer_id)]
        await connections[1].close()
        await until(lambda: not a.peers())
        assert source_of_peer(a._stack.swarm, guest) == "unknown"
        assert events.seen == [("came", b.peer_id), ("went", b.peer_id)]
