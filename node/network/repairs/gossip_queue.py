"""Gossip to a peer may queue for a moment, and is sent in RPCs of moderate size.

Without this repair, gossip to a peer is silently dropped as soon as 32 messages wait for it,
including subscriptions: a node that subscribes to 40 topics at once then misses some. Far too many
bytes may wait for a peer that does not read. And one RPC may be as large as 1 MiB, which our own
peers refuse.

Spec: specs/network.md.
"""

from typing import Final

from libp2p.pubsub import pubsub
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.rpc_queue import RpcQueue

NAME: Final = "RpcQueue"
MESSAGES_MAX: Final = 2048
BYTES_MAX: Final = 256 * 1024
RPC_BYTES: Final = 16 * 1024  # It cannot contain more entries than a peer accepts at once.


class RoomyQueue(RpcQueue):
    """The RPCs that wait to be sent to one peer."""

    def __init__(self) -> None:
        super().__init__(MESSAGES_MAX, RPC_BYTES)
        self._bytes = 0

    def push(self, rpc: rpc_pb2.RPC, priority: bool = False) -> bool:  # noqa: FBT001, FBT002
        """Queue an RPC; return whether there was room."""
        size = rpc.ByteSize()
        if self._bytes + size > BYTES_MAX or not super().push(rpc, priority):
            return False
        self._bytes += size
        return True

    async def pop(self) -> rpc_pb2.RPC | None:
        """Wait for the next RPC; None if the peer is disconnected."""
        rpc = await super().pop()
        if rpc is not None:
            self._bytes -= rpc.ByteSize()
        return rpc


def apply() -> None:
    """Make libp2p, which creates the queue of each peer, create ours."""
    assert hasattr(pubsub, NAME)
    setattr(pubsub, NAME, RoomyQueue)
