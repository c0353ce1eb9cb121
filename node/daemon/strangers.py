"""Peers whose capability record we do not have: the DHT is asked for it, in the background.

Spec: specs/discovery.md#lookup.
"""

import logging
from collections.abc import Callable
from typing import Final

import trio

from node.daemon.door import Door
from node.network.host import Network
from protocol.core.core import Core
from protocol.values.errors import PeerFault, Stale

LOG: Final = logging.getLogger(__name__)
EVERY_S: Final = 5.0


async def look_up_strangers(
    core: Core, network: Network, door: Door, now_ms: Callable[[], int]
) -> None:
    """Look up the records of connected peers that have not told us theirs, until cancelled."""
    while True:
        await trio.sleep(EVERY_S)
        known = {listing.peer for listing in core.directory.listings(now_ms())}
        for peer in [peer.peer_id for peer in network.peers() if peer.peer_id not in known]:
            record = await network.get_record(peer)
            if record is None:
                continue
            try:
                door.take_record(peer, record)
            except (PeerFault, Stale) as error:
                LOG.info("the record of %s in the DHT: %s", peer, error)
