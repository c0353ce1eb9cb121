"""Traces: what this node saw of jobs, offers, round trips and calls, for the laboratory.

Spec: specs/trace.md#recording.
"""

import logging
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

import trio

from node import VERSION as CODE
from node.driver.clock import Clock
from node.driver.job_events import LAST, event_view
from node.network.interface import Peer
from node.provider.bid_log import BidLog
from node.service.anonymous import Anonymous
from node.storage.journal import Journal
from node.trace_format import (
    FORMAT,
    VERSION,
    TracedOffer,
    TracedRoundTrip,
    TraceEnd,
    TraceHeader,
    TraceLine,
    encode_line,
)
from protocol.core.core import Core
from protocol.core.jobs import Job
from protocol.machines.answers import BidResult
from protocol.values.errors import PeerUnreachable
from protocol.values.ids import CallId, JobId, PeerId
from protocol.wire.snapshot import from_snapshot

LOG: Final = logging.getLogger(__name__)
PAGE: Final = 500
ANSWERS_MAX: Final = 10_000
POLL_MS: Final = 1_000
"""How often a live recording looks for jobs, events and offers."""
REST_FACTOR: Final = 10
"""Of a busy node it looks less often: it rests so many times as long as the last look took."""
MEASURE_MS: Final = 60_000
"""How often it measures round trips."""
LINES_AT_ONCE: Final = 500
AT_A_TIME: Final = 8
"""The peers that are measured at once: more would delay each other's answers."""


class PingedNetwork(Protocol):
    """What a recording needs of the network."""

    @property
    def peer_id(self) -> PeerId: ...

    def peers(self) -> tuple[Peer, ...]: ...

    async def round_trip_us(self, peer: PeerId) -> int:
        """Return a round trip to a peer in microseconds; or raise PeerUnreachable."""
        ...


class TraceService:
    """Implements node.rpc.service.TraceApi."""

    def __init__(
        self, core: Core, network: PingedNetwork, journal: Journal, clock: Clock, bid_log: BidLog
    ) -> None:
        self.core = core
        self.network = network
        self.journal = journal
        self.clock = clock
        self.bid_log = bid_log

    async def trace(self, since_ms: int | None, follow_ms: int | None) -> AsyncIterator[bytes]:
        """Yield the lines of a trace: past jobs since an instant, then for a while what happens.

        `since_ms` is in Unix milliseconds, and when the trace starts. By default it starts with the
        first job that the journal has, or now if there is something to follow.
        """
        began_ms = self.clock.now_ms()
        if since_ms is None and follow_ms is not None:
            since_ms = began_ms
        start_ms = await self._first_ms() if since_ms is None else since_ms
        recording = _Recording(self, since_ms or 0, start_ms)
        yield _encoded([TraceHeader(FORMAT, VERSION, CODE)])
        async for chunk in _chunks(recording.news()):
            yield chunk
        yield _encoded(await recording.round_trips())
        until_ms, measured_ms, took_ms = began_ms + (follow_ms or 0), began_ms, 0
        while (now_ms := self.clock.now_ms()) < until_ms:
            rest_ms = max(POLL_MS, REST_FACTOR * took_ms)
            await trio.sleep(min(rest_ms, until_ms - now_ms) / 1000)
            looked_ms = self.clock.now_ms()
            news = [chunk async for chunk in _chunks(recording.news())]
            took_ms = self.clock.now_ms() - looked_ms
            yield b"".join(news)
            if looked_ms - measured_ms >= MEASURE_MS:
                measured_ms = looked_ms
                yield _encoded(await recording.round_trips())
        yield _encoded([TraceEnd(recording.anonymous.at(self.clock.now_ms()))])

    async def _first_ms(self) -> int:
        for _, row in await self.journal.jobs_after(0, 1):
            job: Job = from_snapshot(Job, row.data)
            return min(job.submitted_ms, row.created_ms)  # It may have been submitted again.
        return self.clock.now_ms()


@dataclass(slots=True)
class _OpenJob:
    job: Job
    seq: int = 0
    """The number of its last event that the trace has."""


@dataclass(slots=True)
class _Recording:
    """What one trace has already."""

    service: TraceService
    since_ms: int
    """Jobs and calls before this instant are left out."""
    start_ms: int
    anonymous: Anonymous = field(init=False)
    number: int = 0
    """Of the last job that was looked at."""
    open: dict[JobId, _OpenJob] = field(default_factory=dict)
    offers: dict[PeerId, TracedOffer] = field(default_factory=dict)
    answered: set[CallId] = field(default_factory=set)
    answers_read: int = ANSWERS_MAX
    """How many of the newest answers are looked at next."""

    def __post_init__(self) -> None:
        self.anonymous = Anonymous(self.service.network.peer_id, self.start_ms)

    async def news(self) -> AsyncIterator[TraceLine]:
        """Yield what has happened since the last time: jobs first, for images have numbers then."""
        jobs = [job async for job in self._new_jobs()]
        for job in jobs:
            self.open[job.job_id] = _OpenJob(job)
            yield self.anonymous.job(job)
        for offer in self._new_offers():
            yield offer
        for known in tuple(self.open.values()):
            async for line in self._events(known):
                yield line
        async for line in self._answers():
            yield line

    async def round_trips(self) -> list[TraceLine]:
        """Measure the round trips to the connected peers; those that do not answer have none."""
        found: dict[PeerId, int] = {}
        network, limit = self.service.network, trio.CapacityLimiter(AT_A_TIME)

        async def measure(peer: PeerId) -> None:
            async with limit:
                try:
                    found[peer] = await network.round_trip_us(peer)
                except PeerUnreachable as error:
                    LOG.debug("no round trip: %s", error)

        peers = sorted({peer.peer_id for peer in network.peers()})
        async with trio.open_nursery() as nursery:
            for peer in peers:
                nursery.start_soon(measure, peer)
        at_ms = self.anonymous.at(self.service.clock.now_ms())
        return [
            TracedRoundTrip(at_ms, self.anonymous.peer(peer), found[peer])
            for peer in peers if peer in found
        ]  # fmt: skip

    async def _new_jobs(self) -> AsyncIterator[Job]:
        while rows := await self.service.journal.jobs_after(self.number, PAGE):
            for number, row in rows:
                self.number = number
                job: Job = from_snapshot(Job, row.data)
                if job.submitted_ms >= self.since_ms:
                    yield job

    def _new_offers(self) -> Iterator[TracedOffer]:
        """Yield what nodes lend that was not known before, or was otherwise."""
        now_ms, core = self.service.clock.now_ms(), self.service.core
        status = core.status(now_ms)
        known = [(each.peer, each.record) for each in status.listings]
        if status.record is not None:
            known.insert(0, (self.service.network.peer_id, status.record))
        for peer, record in known:
            if record.providing:
                offer = self.anonymous.offer(peer, record, now_ms)
                before = self.offers.get(peer)
                if before is None or replace(offer, at_ms=before.at_ms) != before:
                    self.offers[peer] = offer
                    yield offer

    async def _events(self, known: _OpenJob) -> AsyncIterator[TraceLine]:
        job = known.job
        for row in await self.service.journal.events(job.job_id, known.seq):
            known.seq = row.seq
            event = event_view(row)
            if event.at_ms >= job.submitted_ms:  # Otherwise of an earlier run of the same job.
                yield self.anonymous.event(job, event)
                if event.kind in LAST:
                    self.open.pop(job.job_id, None)

    async def _answers(self) -> AsyncIterator[TraceLine]:
        """Yield the calls that this node answered and whose end it knows."""
        found = await self.service.bid_log.newest(self.answers_read)
        self.answers_read = PAGE
        for answered in reversed(found):
            is_new = answered.call_id not in self.answered and answered.at_ms >= self.since_ms
            if is_new and answered.result is not BidResult.OPEN:
                self.answered.add(answered.call_id)
                yield self.anonymous.answer(answered)


async def _chunks(lines: AsyncIterator[TraceLine]) -> AsyncIterator[bytes]:
    """Yield lines in parts: a long history is never in memory as a whole."""
    part: list[TraceLine] = []
    async for line in lines:
        part.append(line)
        if len(part) == LINES_AT_ONCE:
            yield _encoded(part)
            part = []
    yield _encoded(part)


def _encoded(lines: Iterable[TraceLine]) -> bytes:
    return b"".join(map(encode_line, lines))
