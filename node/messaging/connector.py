"""Connects to the peers whose answers this node expects.

They may be unable to connect to us: then they answer over the connection that we made.
Spec: specs/network.md#keeping-connections.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import trio

from protocol.values.errors import PeerUnreachable
from protocol.values.ids import PeerId

LOG: Final = logging.getLogger(__name__)
AT_A_TIME: Final = 16
WAITING_MAX: Final = 256
"""The most queued peers. Further ones are skipped: a peer that can dial us does not need it."""


class Connector:
    """Makes connections in the background. `reach` makes one, or raises PeerUnreachable."""

    def __init__(self, reach: Callable[[PeerId], Awaitable[None]]) -> None:
        self._reach = reach
        self._wanted, self._waiting = trio.open_memory_channel[PeerId](WAITING_MAX)

    def want(self, peers: Iterable[PeerId]) -> None:
        """Queue peers to connect to; those beyond WAITING_MAX are skipped."""
        for peer in peers:
            try:
                self._wanted.send_nowait(peer)
            except trio.WouldBlock:
                LOG.debug("too many peers to connect to at once")
                return

    async def run(self) -> None:
        """Make connections until cancelled."""
        async with trio.open_nursery() as nursery:
            for _ in range(AT_A_TIME):
                nursery.start_soon(self._work)

    async def _work(self) -> None:
        async for peer in self._waiting:
            try:
                await self._reach(peer)
            except PeerUnreachable as error:
                LOG.debug("%s", error)
