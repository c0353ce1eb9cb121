"""Logs the node's connectivity: silent bootstrap peers, the first peer, the loss of the last one.

Spec: specs/operation.md#connectivity.
"""

import logging
from collections.abc import Sequence
from typing import Final

import trio

from node.network.host import Network

LOG: Final = logging.getLogger(__name__)
ANSWER_S: Final = 5.0
"""A bootstrap peer that is not connected after this time is logged."""
LOOK_S: Final = 1.0
"""How often the peers are polled: one that connects and disconnects does not flood the log."""


async def log_connectivity(network: Network, bootstrap: Sequence[str]) -> None:
    """Log when the first peer connects and when the last one is lost, until cancelled.

    Warns once of each bootstrap peer that is not connected after ANSWER_S. `bootstrap` are
    multiaddresses that end in /p2p/PEER. The network keeps dialling them.
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
                " id are those that it logs at its start, and that its port is open; retrying",
                address,
            )


async def _tell_changes(network: Network, bootstrap: Sequence[str]) -> None:
    others = {_peer_of(address) for address in bootstrap} - {network.peer_id}
    then = "retrying the bootstrap peers" if others else "waiting for one to connect"
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
