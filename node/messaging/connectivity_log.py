"""Says in the log whether the node is among others: who does not answer, who came, who is lost.

Spec: specs/operation.md#connectivity.
"""

import logging
from collections.abc import Sequence
from typing import Final

import trio

from node.network.host import Network

LOG: Final = logging.getLogger(__name__)
ANSWER_S: Final = 5.0
"""How long a bootstrap peer may take before its silence is worth a line."""
LOOK_S: Final = 1.0
"""How often it is looked whether there are peers: one that comes and goes fills no log."""


async def log_connectivity(network: Network, bootstrap: Sequence[str]) -> None:
    """Say when the first peer is connected and when the last one is lost, for ever.

    Warns once of each bootstrap peer that is not connected after a while. `bootstrap` are
    multiaddresses that end in /p2p/PEER. The network goes on dialling them.
    """
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_name_silent, network, bootstrap)
        nursery.start_soon(_tell_changes, network, bootstrap)


async def _name_silent(network: Network, bootstrap: Sequence[str]) -> None:
    await trio.sleep(ANSWER_S)
    connected = {peer.peer_id for peer in network.peers()} | {network.peer_id}
    for address in bootstrap:
        if _peer_of(address) not in connected:
            LOG.warning(
                "the bootstrap peer %s does not answer: check that it runs, that address and peer"
                " id are those that it prints at its start, and that its port is open; retrying",
                address,
            )


async def _tell_changes(network: Network, bootstrap: Sequence[str]) -> None:
    others = {_peer_of(address) for address in bootstrap} - {network.peer_id}
    then = "dialling the bootstrap peers again" if others else "waiting for a peer to connect"
    alone = True
    while True:
        peers = network.peers()
        if peers and alone:
            LOG.info("connected to %s", peers[0].peer_id)
        elif not (peers or alone):
            LOG.warning("lost the last peer; %s", then)
        alone = not peers
        await trio.sleep(LOOK_S)


def _peer_of(address: str) -> str:
    """Return the peer id at the end of a multiaddress."""
    return address.rpartition("/p2p/")[2]
