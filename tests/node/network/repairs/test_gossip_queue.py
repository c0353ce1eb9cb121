"""Stock: the 33rd message that waits is dropped. Repaired: 2048 may wait.

Stock: one RPC holds more than a peer of ours takes. Repaired: it is cut.

Spec: specs/network.md.
"""

import pytest
from libp2p.pubsub import pubsub
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.rpc_queue import DefaultMaxMessageSize, OutBoundQueueSize, RpcQueue

from node.network.pubsub import RPC_ENTRIES_MAX
from node.network.repairs import gossip_queue
from node.network.repairs.gossip_queue import RoomyQueue
from node.network.rpc_stream import RPC_BYTES_MAX


def fits(queue, count):
    return [queue.push(rpc_pb2.RPC()) for _ in range(count)].count(True)


def test_stock_drops():
    assert fits(RpcQueue(OutBoundQueueSize), 500) == OutBoundQueueSize == 32


def test_repaired_keeps():
    queue = RoomyQueue()
    assert fits(queue, 500) == 500
    assert fits(queue, 3000) == gossip_queue.MESSAGES_MAX - 500


def test_libp2p_makes_the_repaired():
    gossip_queue.apply()
    assert pubsub.RpcQueue is RoomyQueue


def fits_of(queue, size):
    rpc = rpc_pb2.RPC(publish=[rpc_pb2.Message(data=bytes(size))])
    return [queue.push(rpc) for _ in range(200)].count(True) * rpc.ByteSize()


def test_stock_keeps_whatever_a_peer_does_not_read():
    assert fits_of(RpcQueue(200, 2**20), 100_000) > 200 * 100_000


async def test_repaired_keeps_some_of_it():
    queue = RoomyQueue()
    assert 0 <= gossip_queue.BYTES_MAX - fits_of(queue, 10_000) < 10_100
    assert fits_of(queue, 10_000) == 0
    for _ in range(3):
        await queue.pop()
    assert fits_of(queue, 10_000) == pytest.approx(30_000, rel=0.01)


def gossip_of(ids):
    rpc = rpc_pb2.RPC()
    rpc.control.ihave.add(topicID="/mutirao/mutirao/record", messageIDs=[bytes(46)] * ids)
    return rpc


def test_stock_sends_too_much_at_once():
    (whole,) = RpcQueue(OutBoundQueueSize, DefaultMaxMessageSize).split_rpc(gossip_of(8000))
    assert whole.ByteSize() > RPC_BYTES_MAX


def test_repaired_sends_pieces():
    pieces = RoomyQueue().split_rpc(gossip_of(8000))
    assert all(piece.ByteSize() <= gossip_queue.RPC_BYTES for piece in pieces)
    counts = [len(piece.control.ihave[0].messageIDs) for piece in pieces]
    assert sum(counts) == 8000
    assert max(counts) < RPC_ENTRIES_MAX
