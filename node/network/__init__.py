"""The network: libp2p behind a small interface. No other folder uses libp2p.

`node.network.host.open_network` starts it. Importing that module takes about a second and 60 MiB,
because of libp2p. This package itself, with the values of the interface, is cheap to import, so the
command line can use it.

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
