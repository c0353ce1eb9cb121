"""The network: libp2p behind six verbs, and nothing of libp2p beyond this folder.

`node.network.host.open_network` starts it. Importing that module costs about a second and
60 MiB, for libp2p imports much; this package itself, with the values of the interface, costs
nothing, so that the command line can name them.

Spec: specs/network.md.
"""

from node.network.interface import (
    AddressTaken,
    NetworkConfig,
    Peer,
    PeerEvents,
    RecordRule,
    Tuning,
)

__all__ = ["AddressTaken", "NetworkConfig", "Peer", "PeerEvents", "RecordRule", "Tuning"]
