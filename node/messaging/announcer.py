"""Gossips announcements, and stores our capability record in the DHT.

Spec: specs/core.md#effects. The core waits for neither.
"""

import logging
from typing import Final

import trio

from node.network.host import Network
from node.storage.journal import Journal
from protocol.machines.effects import Advertise, Publish

LOG: Final = logging.getLogger(__name__)
PUBLICATIONS_MAX: Final = 256
ADVERTISE_RETRY_S: Final = 30.0
SEQUENCE_FACT: Final = "record-sequence"
"""The fact of the journal that holds the sequence number of our newest record."""


class Announcer:
    """Publishes and advertises in the background."""

    def __init__(self, network: Network, journal: Journal) -> None:
        self._network = network
        self._journal = journal
        self._queue, self._queued = trio.open_memory_channel[Publish](PUBLICATIONS_MAX)
        self._unpublished = 0
        self._published = trio.Event()
        self._record: Advertise | None = None
        self._record_changed = trio.Event()

    def publish(self, announcement: Publish) -> None:
        """Queue an announcement for gossip; it is discarded if the queue is full."""
        try:
            self._queue.send_nowait(announcement)
        except trio.WouldBlock:
            LOG.warning("too many announcements to publish: one is discarded")
        else:
            self._unpublished += 1

    def advertise(self, record: Advertise) -> None:
        """Store our record in the DHT; it replaces the previous one."""
        self._record = record
        self._record_changed.set()

    async def wait_published(self) -> None:
        """Wait until every queued announcement is published."""
        while self._unpublished:
            await self._published.wait()

    async def run(self) -> None:
        """Publish and advertise, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._publish_all)
            nursery.start_soon(self._advertise_newest)

    async def _publish_all(self) -> None:
        async for announcement in self._queued:
            await self._network.publish(announcement.topic, announcement.envelope)
            self._unpublished -= 1
            self._published.set()
            self._published = trio.Event()

    async def _advertise_newest(self) -> None:
        while True:
            await self._record_changed.wait()
            self._record_changed = trio.Event()
            assert self._record is not None
            await self._journal.set_fact(SEQUENCE_FACT, self._record.sequence.to_bytes(8))
            if not await self._network.put_record(self._record.envelope):
                LOG.debug("the capability record did not reach the DHT; retrying")
                with trio.move_on_after(ADVERTISE_RETRY_S):
                    await self._record_changed.wait()
                self._record_changed.set()
