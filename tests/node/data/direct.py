"""Bulk connections in the tests of node/data: pairs of sockets, served by threads.

Spec: specs/data.md#bulk-transfer.
"""

import socket
from collections.abc import Callable
from typing import Any

import trio

from node.network.bulk_connection import BulkConnection, in_thread
from protocol.values.errors import NodeError
from protocol.values.ids import PeerId

FETCHER = PeerId("fetcher")
LIMITER = trio.CapacityLimiter(32)


class DirectPeers:
    """Peers that serve bulk connections: each has a function that runs in a thread."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.work: dict[PeerId, Callable[[BulkConnection], None]] = {}
        self.called: list[PeerId] = []
        self.raised: list[NodeError] = []
        self._nursery = nursery

    async def call(self, peer: PeerId, work: Callable[[BulkConnection], Any]) -> Any:
        self.called.append(peer)
        ours, theirs = socket.socketpair()
        self._nursery.start_soon(self._serve, peer, theirs)
        with ours:
            connection = BulkConnection(ours, peer, timeout_s=30)
            return await in_thread(ours, lambda _: work(connection), LIMITER)

    async def _serve(self, peer: PeerId, theirs: socket.socket) -> None:
        connection = BulkConnection(theirs, FETCHER, timeout_s=30)
        with theirs:
            try:
                await in_thread(theirs, lambda _: self.work[peer](connection), LIMITER)
            except NodeError as error:
                self.raised.append(error)
