"""The size of DHT messages is limited to what is needed.

Without this repair, an answer of 4 MiB with 400,000 addresses is read to its end, which blocks the
node for many seconds.

Repaired, a message longer than twenty peers with all their addresses and records is refused.

Spec: specs/dht.md#limits.
"""

from typing import Final

from libp2p.kad_dht import kad_dht, peer_routing, provider_store, value_store

NAME: Final = "MAX_DHT_MESSAGE_SIZE"
MESSAGE_BYTES_MAX: Final = 128 * 1024


def apply() -> None:
    """Lower the limit in every module that has a copy of it."""
    for module in (kad_dht, peer_routing, provider_store, value_store):
        assert hasattr(module, NAME), module.__name__
        setattr(module, NAME, MESSAGE_BYTES_MAX)
