"""What the driver asks for goes from here to the part of the node that does it.

Spec: specs/core.md#effects.
"""

import logging
from dataclasses import dataclass
from typing import Final

import trio

from node.daemon.job_log import JobLog
from node.daemon.recovery import SEQUENCE_FACT
from node.messaging.connector import Connector
from node.messaging.outbox_sender import OutboxSender
from node.network.host import Network
from node.provider.executions import Executions
from node.requester.results import Results
from node.service.jobs import JobService
from node.service.node import NodeService
from node.storage.journal import Journal, OutboxRow
from protocol.core.jobs import Ending, Job
from protocol.machines import effects
from protocol.values.ids import LeaseId

LOG: Final = logging.getLogger(__name__)
PUBLICATIONS_MAX: Final = 256
ADVERTISE_RETRY_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Performers:
    """The parts of a node that perform what the core asks for, or are told of it."""

    network: Network
    journal: Journal
    postman: OutboxSender
    executions: Executions
    results: Results
    jobs: JobService
    node: NodeService


class NodeEffects:
    """Implements node.driver.driver.Ports with the real parts."""

    def __init__(self, performers: Performers) -> None:
        self._network = performers.network
        self._journal = performers.journal
        self._postman = performers.postman
        self._executions = performers.executions
        self._results = performers.results
        self._jobs = performers.jobs
        self._node = performers.node
        self._telling = JobLog()
        self._reaching = Connector(performers.network.reach)
        self._to_publish, self._published = trio.open_memory_channel[effects.Publish](
            PUBLICATIONS_MAX
        )
        self._unpublished = 0
        self._published_one = trio.Event()
        self._record: effects.Advertise | None = None
        self._record_changed = trio.Event()
        self._settled = trio.Event()

    def send(self, message: OutboxRow) -> None:
        self._postman.send(message)

    def written(self, effect: effects.Save | effects.Settle | effects.Report) -> None:
        match effect:
            case effects.Report():
                self._telling.reported(effect)
                self._jobs.reported(effect)
            case effects.Save("job", _, Job() as job) if job.ending is Ending.OPEN:
                self._jobs.opened(job)
            case effects.Save("job", _, Job() as job):
                self._jobs.ended(job)
            case effects.Save("requester-lease", key, None):
                self._results.forget(LeaseId(key))
            case effects.Save("provider-lease", key, state):
                self._telling.saved(LeaseId(key), state)
            case effects.Settle():
                self._settled.set()

    def perform(self, effect: effects.Effect) -> None:
        match effect:
            case effects.Publish():
                try:
                    self._to_publish.send_nowait(effect)
                    self._unpublished += 1
                except trio.WouldBlock:
                    LOG.warning("too much to publish: an announcement is dropped")
            case effects.Advertise():
                self._record = effect
                self._record_changed.set()
            case effects.Learn(peer, addresses):
                self._network.learn(peer, addresses)
            case effects.Reach(peers):
                self._reaching.want(peers)
            case effects.Progress():
                self._jobs.progressed(effect)
            case effects.FollowLog() | effects.FetchOutputs():
                self._results.perform(effect)
            case _:
                if isinstance(effect, effects.Launch):
                    self._telling.launched(effect)
                self._executions.perform(effect)

    async def publish(self) -> None:
        """Publish what there is to publish, in order, until cancelled."""
        async for publication in self._published:
            await self._network.publish(publication.topic, publication.envelope)
            self._unpublished -= 1
            self._published_one.set()
            self._published_one = trio.Event()

    async def reach(self) -> None:
        """Connect with those whose answers we wait for, until cancelled."""
        await self._reaching.run()

    async def wait_published(self) -> None:
        """Wait until everything that was to be published is on its way."""
        while self._unpublished:
            await self._published_one.wait()

    async def advertise(self) -> None:
        """Keep our newest capability record in the DHT, until cancelled."""
        while True:
            await self._record_changed.wait()
            self._record_changed = trio.Event()
            assert self._record is not None
            await self._journal.set_fact(SEQUENCE_FACT, self._record.sequence.to_bytes(8))
            if not await self._network.put_record(self._record.envelope):
                LOG.debug("the capability record did not reach the DHT; trying again")
                with trio.move_on_after(ADVERTISE_RETRY_S):
                    await self._record_changed.wait()
                self._record_changed.set()

    async def count(self) -> None:
        """Keep the user's sums up to date, until cancelled."""
        while True:
            await self._settled.wait()
            self._settled = trio.Event()
            self._node.totals = await self._journal.totals()
