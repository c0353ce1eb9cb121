"""Gossip to a peer may pile up for a moment.

Without this, gossip to a peer is silently dropped as soon as 32 messages wait for it, the
subscriptions among them: a node that subscribes to 40 topics at once is then deaf on some.

Spec: specs/network.md.
"""

from typing import Final

from libp2p.pubsub.rpc_queue import DefaultMaxMessageSize, RpcQueue

MESSAGES_MAX: Final = 2048


def apply() -> None:
    """Give new queues more room; libp2p makes them itself, with the default length."""
    RpcQueue.__init__.__defaults__ = (MESSAGES_MAX, DefaultMaxMessageSize)
