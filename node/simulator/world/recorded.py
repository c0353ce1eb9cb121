"""The world that a live node recorded: its providers, their prices and distances, and its jobs.

Node 0 is the node that recorded. The others are its providers in the order of their numbers; if a
scenario has more nodes, they begin again with the first.
Spec: specs/trace.md#replay.
"""

from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cache, lru_cache
from pathlib import Path
from statistics import median_low
from typing import Annotated, Final

import numpy as np
from numpy.typing import NDArray

from node.simulator.containers import WORK
from node.simulator.engine import TICKS_PER_MS
from node.simulator.traces import Gang, RecordedJob, Recording, read_trace
from node.simulator.world.bandwidth import EqualLines, Rates
from node.simulator.world.demand import Arrival
from node.simulator.world.latency import Links, Numbers, Ticks
from node.simulator.world.pricing import DrawnFloors, PriceChange
from node.simulator.world.quantities import Meaning
from node.simulator.world.supply import LentMachine, devices_of
from node.trace_format import TracedOffer
from protocol.rules.capacity import Capacity
from protocol.rules.pricing import PERCENT, list_rate
from protocol.values.ids import Digest, digest_of
from protocol.wire.job import BlobRef, FileRef, JobSpec, Resources, Terms, Workload
from protocol.wire.messages import Prices

RECORDINGS_KEPT_MAX: Final = 4
US_PER_TICK: Final = 1000 // TICKS_PER_MS
TraceFile = Annotated[Path, Meaning("a trace that `mutirao record` wrote")]


@dataclass(frozen=True, slots=True)
class RecordedMachine:
    """What one recorded provider lends."""

    offer: TracedOffer
    held: tuple[int, ...]
    """The images that it had at first."""

    @property
    def capacity(self) -> Capacity:
        each = [(gpus.gpu_class, gpus.vram_mib) for gpus in self.offer.gpus
                for _ in range(gpus.count)]  # fmt: skip
        offer = self.offer
        return Capacity(offer.cpus, offer.memory_mib, offer.disk_mib, devices_of(each))

    @property
    def images(self) -> tuple[Digest, ...]:
        return tuple(map(image_of, self.held))

    def prices(self, percent: int) -> Prices:
        listed = _prices(self.offer)
        rates = listed.cpu, listed.memory_gib, listed.gpu
        return Prices(*(rate * percent // PERCENT for rate in rates))


@dataclass(frozen=True, slots=True)
class RecordedSupply:
    """What the providers of a trace lend."""

    file: TraceFile

    @property
    def kinds(self) -> Sequence[LentMachine]:
        recording = read_trace(self.file)
        held = recording.images_at_first()
        return [
            RecordedMachine(recording.offers[each][0], tuple(held[each]))
            for each in recording.providers
        ]

    def kind_of(self, nodes: int, seed: int) -> NDArray[np.int64]:
        return _place(nodes, len(read_trace(self.file).providers))

    def price_percent(self, nodes: int, seed: int) -> NDArray[np.int64]:
        return np.full(nodes, PERCENT, np.int64)


@dataclass(frozen=True, slots=True)
class RecordedLatency:
    """The round trips of a trace; between two providers, the longer of theirs."""

    file: TraceFile

    def links(self, nodes: int, seed: int) -> Links:
        recording = read_trace(self.file)
        providers = recording.providers
        place = _place(nodes, len(providers))
        halves = [recording.round_trip_us(each) // 2 // US_PER_TICK for each in providers]
        ticks = np.array(halves, np.int32)[place]
        ticks[0] = 0
        regions = ("", *(f"region-{number}" for number in range(1, recording.regions + 1)))
        region = np.array([recording.offers[each][0].region for each in providers])[place]
        return _Star(regions, region, np.maximum(ticks, 1))


@dataclass(slots=True)
class _Star:
    """Every node has a distance from the first."""

    regions: tuple[str, ...]
    region: NDArray[np.int64]
    distance: Ticks

    def ticks(self, one: Numbers, other: Numbers) -> Ticks:
        return np.maximum(self.distance[one], self.distance[other])


@dataclass(frozen=True, slots=True)
class RecordedLines(EqualLines):
    """All lines are as fast as the median first fetch of an image in a trace; if none, `mbit`."""

    _: KW_ONLY
    file: TraceFile

    def rates(self, nodes: int, seed: int) -> tuple[Rates, Rates]:
        fetches = read_trace(self.file).first_fetches()
        if not fetches:
            return EqualLines.rates(self, nodes, seed)
        rate = median_low([size // (took_ms * TICKS_PER_MS) for size, took_ms in fetches])
        alike = np.full(nodes, max(1, rate), np.int64)
        return alike, alike


@dataclass(frozen=True, slots=True)
class RecordedPrices(DrawnFloors):
    """The list prices of a trace as they changed, and floors that follow from the bids in it."""

    file: TraceFile

    @property
    def lowest_percent(self) -> int:
        recording = read_trace(self.file)
        return min(_floor_percent(recording, each) for each in recording.providers)

    def changes(self, number: int) -> Iterator[PriceChange]:
        recording = read_trace(self.file)
        peer = recording.providers[(number - 1) % len(recording.providers)]
        floor, before_ms, listed = _floor_percent(recording, peer), 0, PERCENT
        first, *later = recording.offers[peer]
        yield PriceChange(0, listed, floor)
        for offer in later:
            percent = max(1, round(PERCENT * _price(offer) / max(1, _price(first))))
            if percent != listed:
                yield PriceChange(offer.at_ms - before_ms, percent, floor)
                before_ms, listed = offer.at_ms, percent


@dataclass(frozen=True, slots=True)
class RecordedDemand:
    """The jobs of a trace, at their times; all are of the first node."""

    file: TraceFile

    def arrivals(self, horizon_ms: int, requesters: int, seed: int) -> Iterator[Arrival]:
        recording = read_trace(self.file)
        for gang in recording.submitted():
            if gang[0].job.at_ms >= horizon_ms:
                return
            yield Arrival(gang[0].job.at_ms, 0, _spec(gang, recording.usual_work_ms()))


@cache
def image_of(number: int) -> Digest:
    """Return the digest that stands for an image of a trace."""
    return digest_of(b"image %d" % number)


def _place(nodes: int, providers: int) -> NDArray[np.int64]:
    """Return the place of each node among the providers of a trace."""
    return np.arange(-1, nodes - 1, dtype=np.int64) % providers


def _price(offer: TracedOffer) -> int:
    return offer.gpu_rate if offer.gpus else offer.cpu_rate


def _floor_percent(recording: Recording, peer: int) -> int:
    """Return the lowest that a provider asked, in percent of its list price.

    One that never bid is like the median of the others; where nobody bid, all ask their list price.
    """
    lowest = _lowest_asks(recording)
    return lowest.get(peer, median_low([*lowest.values()]) if lowest else PERCENT)


@lru_cache(RECORDINGS_KEPT_MAX)
def _lowest_asks(recording: Recording) -> dict[int, int]:
    found: dict[int, int] = {}
    opened = [(each, event) for each in recording.jobs.values() for event in each.events]
    for each, event in opened:
        for bid in event.bids:
            offer = _offer_at(recording, bid.peer, event.at_ms)
            listed = list_rate(_prices(offer), _wanted(each)) if offer else 0
            if listed:
                percent = min(PERCENT, bid.ask * PERCENT // listed)
                found[bid.peer] = min(percent, found.get(bid.peer, PERCENT))
    return found


def _offer_at(recording: Recording, peer: int, at_ms: int) -> TracedOffer | None:
    """Return what a provider offered at a time; of a time before, what it offered first."""
    offers = recording.offers.get(peer, [])
    before = [offer for offer in offers if offer.at_ms <= at_ms]
    return next(iter(before[-1:] or offers[:1]), None)


def _prices(offer: TracedOffer) -> Prices:
    return Prices(offer.cpu_rate, offer.memory_gib_rate, offer.gpu_rate)


def _wanted(recorded: RecordedJob) -> Resources:
    job = recorded.job
    return Resources(
        job.cpus, job.memory_mib, job.disk_mib, job.gpus, job.gpu_class, job.vram_mib
    )  # fmt: skip


def _spec(gang: Gang, usual_ms: int) -> JobSpec:
    """Return what the user of a gang, or of one job, submits."""
    job = gang[0].job
    work_ms = max(each.usage_ms or usual_ms for each in gang)
    data = FileRef("input", BlobRef(digest_of(b"input %d" % job.job), job.input_bytes))
    workload = Workload(
        image_of(job.image), (WORK, str(max(1, work_ms))), (),
        (data,) if job.input_bytes else (), _wanted(gang[0]), job.timeout_ms,
        image_bytes=job.image_bytes,
    )  # fmt: skip
    region = f"region-{job.region}" if job.region else ""
    terms = Terms(
        job.rate_max, job.profile, region, job.retries, queue_ms=job.queue_ms,
        priority=job.priority, cap_percent=job.cap_percent, nodes=len(gang),
    )  # fmt: skip
    return JobSpec("", workload, terms)
