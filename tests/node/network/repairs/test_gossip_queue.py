"""Stock: the 33rd message that waits is dropped. Repaired: 2048 may wait.

Stock: one RPC holds more than a peer of ours takes. Repaired: it is cut.

Spec: specs/network.md.
"""

from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.rpc_queue import DefaultMaxMessageSize, OutBoundQueueSize, RpcQueue

from node.network.pubsub import RPC_BYTES_MAX, RPC_ENTRIES_MAX
from node.network.repairs import gossip_queue


def fits(queue, count):
    return [queue.push(rpc_pb2.RPC()) for _ in range(count)].count(True)


def test_stock_drops():
    assert fits(RpcQueue(OutBoundQueueSize), 500) == OutBoundQueueSize == 32


def test_repaired_keeps():
    gossip_queue.apply()
    assert fits(RpcQueue(), 500) == 500
    assert fits(RpcQueue(), 3000) == gossip_queue.MESSAGES_MAX


def gossip_of(ids):
    rpc = rpc_pb2.RPC()
    rpc.control.ihave.add(topicID="/mutirao/mutirao/record", messageIDs=[bytes(46)] * ids)
    return rpc


def test_stock_sends_too_much_at_once():
    (whole,) = RpcQueue(OutBoundQueueSize, DefaultMaxMessageSize).split_rpc(gossip_of(8000))
    assert whole.ByteSize() > RPC_BYTES_MAX


def test_repaired_sends_pieces():
    gossip_queue.apply()
    pieces = RpcQueue().split_rpc(gossip_of(8000))
    assert all(piece.ByteSize() <= gossip_queue.RPC_BYTES for piece in pieces)
    counts = [len(piece.control.ihave[0].messageIDs) for piece in pieces]
    assert sum(counts) == 8000
    assert max(counts) < RPC_ENTRIES_MAX
