"""What this node has exchanged with its peers since it started.

Spec: specs/network.md#traffic.
"""

from dataclasses import dataclass


@dataclass(slots=True)
class Traffic:
    """Counts, which only grow."""

    messages_sent: int = 0
    """Messages to one peer each, over streams; acknowledgements are not counted."""
    messages_received: int = 0
    gossip_sent: int = 0
    """Announcements, once for each peer that one is sent or forwarded to."""
    gossip_received: int = 0
    bytes_sent: int = 0
    """Everything on all connections: encryption, acknowledgements, the DHT and blobs included."""
    bytes_received: int = 0
