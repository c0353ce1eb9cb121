"""Looks up missing capability records of connected peers in the DHT, in the background.

Spec: specs/discovery.md#lookup.
"""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import trio

from node.messaging.receiver import Receiver
from node.network.host import Network
from protocol.core.core import Core
from protocol.values.errors import PeerFault, Stale
from protocol.values.ids import PeerId

LOG: Final = logging.getLogger(__name__)
EVERY_S: Final = 1.0
AT_ONCE_MAX: Final = 8
"""A lookup may take ten seconds: peers that do not answer must not delay others."""
PAUSE_S_MIN: Final = 5.0
PAUSE_S_MAX: Final = 300.0


async def look_up_records(
    core: Core, network: Network, receiver: Receiver, now_ms: Callable[[], int]
) -> None:
    """Look up the records of connected peers that we have no record of, until cancelled."""
    lookups: dict[PeerId, _Lookup] = {}
    slots = trio.CapacityLimiter(AT_ONCE_MAX)
    async with trio.open_nursery() as nursery:
        while True:
            await trio.sleep(EVERY_S)
            connected = [peer.peer_id for peer in network.peers()]
            unknown = [peer for peer in connected if core.record_of(peer, now_ms()) is None]
            lookups = {peer: lookups.get(peer) or _Lookup(peer) for peer in unknown}
            due = [one for one in lookups.values() if one.due_s <= trio.current_time()]
            due.sort(key=lambda lookup: lookup.attempts)
            for lookup in due[: int(slots.available_tokens)]:
                lookup.attempts += 1
                lookup.due_s = math.inf  # Not again while this lookup runs.
                nursery.start_soon(_look_up, lookup, network, receiver, slots)


@dataclass(slots=True)
class _Lookup:
    peer: PeerId
    attempts: int = 0
    due_s: float = 0


async def _look_up(
    lookup: _Lookup, network: Network, receiver: Receiver, slots: trio.CapacityLimiter
) -> None:
    async with slots:
        record = await network.get_record(lookup.peer)
    pause_s = min(PAUSE_S_MIN * 2 ** min(lookup.attempts - 1, 16), PAUSE_S_MAX)
    lookup.due_s = trio.current_time() + pause_s
    try:
        if record is not None:
            receiver.take_record(lookup.peer, record)
    except (PeerFault, Stale) as error:
        LOG.info("the record of %s in the DHT is refused: %s", lookup.peer, error)
