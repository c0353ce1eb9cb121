"""Gossip to a peer may pile up for a moment, and goes out in pieces of a moderate size.

Without this, gossip to a peer is silently dropped as soon as 32 messages wait for it, the
subscriptions among them: a node that subscribes to 40 topics at once is then deaf on some. And
what goes out together may be as large as 1 MiB, which our own peers do not take.

Spec: specs/network.md.
"""

from typing import Final

from libp2p.pubsub.rpc_queue import RpcQueue

MESSAGES_MAX: Final = 2048
RPC_BYTES: Final = 16 * 1024  # So few bytes cannot hold more entries than a peer takes at once.


def apply() -> None:
    """Give new queues more room; libp2p makes them itself, with the default lengths."""
    RpcQueue.__init__.__defaults__ = (MESSAGES_MAX, RPC_BYTES)
