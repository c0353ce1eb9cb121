"""Says in the log when the network cannot be entered: a bootstrap peer does not answer.

Spec: specs/operation.md#entrance.
"""

import logging
from collections.abc import Sequence
from typing import Final

import trio

from node.network.host import Network

LOG: Final = logging.getLogger(__name__)
ANSWER_S: Final = 5.0
"""How long a bootstrap peer may take before its silence is worth a line."""


async def watch_entrance(network: Network, bootstrap: Sequence[str]) -> None:
    """Warn once of each bootstrap peer that is not connected after a while.

    `bootstrap` are multiaddresses that end in /p2p/PEER. The network goes on dialling them.
    """
    await trio.sleep(ANSWER_S)
    connected = {peer.peer_id for peer in network.peers()} | {network.peer_id}
    for address in bootstrap:
        if address.rpartition("/p2p/")[2] not in connected:
            LOG.warning(
                "the bootstrap peer %s does not answer: see that it runs, that address and peer id"
                " are those which it prints at its start, and that its port is open; trying on",
                address,
            )
