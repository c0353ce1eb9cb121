"""Stock: the 33rd message that waits is dropped. Repaired: 2048 may wait.

Spec: specs/network.md.
"""

from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.rpc_queue import OutBoundQueueSize, RpcQueue

from node.network.repairs import gossip_queue


def fits(queue, count):
    return [queue.push(rpc_pb2.RPC()) for _ in range(count)].count(True)


def test_stock_drops():
    assert fits(RpcQueue(OutBoundQueueSize), 500) == OutBoundQueueSize == 32


def test_repaired_keeps():
    gossip_queue.apply()
    assert fits(RpcQueue(), 500) == 500
    assert fits(RpcQueue(), 3000) == gossip_queue.MESSAGES_MAX
