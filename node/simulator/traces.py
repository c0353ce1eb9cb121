"""Reads traces that live nodes recorded, and puts together what belongs together.

Spec: specs/trace.md#replay.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from statistics import median_low
from typing import Final

from node.trace_format import (
    OWN,
    TracedEvent,
    TracedJob,
    TracedOffer,
    TracedRoundTrip,
    TraceHeader,
    TraceLine,
    UnreadableLine,
    decode_line,
    require_version,
)
from protocol.values.errors import InvalidRequest

FILES_KEPT_MAX: Final = 4
SHORTEST_MS: Final = 1
FETCH_BYTES_MIN: Final = 1024**2
"""The time of a smaller fetch says nothing of the line."""
DONE, FAILED, OPEN = "done", "failed", "open"
Gang = tuple["RecordedJob", ...]
"""Jobs that were submitted together: the members of a gang by rank, or one job."""


@dataclass(slots=True)
class RecordedJob:
    """A job and its events, in order."""

    job: TracedJob
    events: list[TracedEvent] = field(default_factory=list)

    @property
    def outcome(self) -> str:
        last = self.events[-1].event if self.events else ""
        return last if last in {DONE, FAILED} else OPEN

    @property
    def usage_ms(self) -> int | None:
        """The usage of the container whose end is known; None if there is none."""
        used = [each.usage_ms for each in self.events if each.event in {"returning", DONE}]
        return next((each for each in reversed(used) if each is not None), None)

    @property
    def rate(self) -> int | None:
        """The rate of its last award, in nano-credits per second."""
        rates = [each.rate for each in self.events if each.event == "awarded"]
        return rates[-1] if rates else None

    def after_ms(self, *events: str) -> int | None:
        """Return how long after its submission the first of some events came."""
        times = (each.at_ms for each in self.events if each.event in events)
        first = next(times, None)
        return None if first is None else first - self.job.at_ms


@dataclass(slots=True, eq=False)
class Recording:
    """What a trace says."""

    path: Path
    jobs: dict[int, RecordedJob] = field(default_factory=dict)
    offers: dict[int, list[TracedOffer]] = field(default_factory=lambda: defaultdict(list))
    """Of each node that lends, but for the recording one; by number, in the order of time."""
    pings_us: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))

    end_ms: int = 0
    """The latest time in it."""

    @property
    def providers(self) -> list[int]:
        """The numbers of the nodes that lend."""
        return sorted(self.offers)

    @property
    def regions(self) -> int:
        """How many regions are named."""
        offered = (offer.region for offers in self.offers.values() for offer in offers)
        return max([0, *offered, *(each.job.region for each in self.jobs.values())])

    def round_trip_us(self, peer: int) -> int:
        """Return the usual round trip to a peer; of one that was not measured, the others'."""
        measured = self.pings_us.get(peer) or [
            each for one in self.pings_us.values() for each in one
        ]
        return median_low(measured) if measured else 0

    def submitted(self) -> list[Gang]:
        """Return the jobs in the order of their submission."""
        found: dict[tuple[int, int], list[RecordedJob]] = {}
        for each in sorted(self.jobs.values(), key=lambda each: (each.job.at_ms, each.job.job)):
            gang = each.job.gang
            found.setdefault((gang, 0 if gang else each.job.job), []).append(each)
        return [tuple(each) for each in found.values()]

    def usual_work_ms(self) -> int:
        """Return the median usage: what a job is taken to need whose end is not known."""
        known = [each.usage_ms for each in self.jobs.values() if each.usage_ms is not None]
        return max(SHORTEST_MS, median_low(known)) if known else SHORTEST_MS

    def first_fetches(self) -> list[tuple[int, int]]:
        """Return the bytes that providers fetched for the first job with an image, and the time.

        The time is in milliseconds, at least 1.
        """
        held = self.images_at_first()
        seen: set[tuple[int | None, int]] = {
            (peer, image) for peer, images in held.items() for image in images
        }
        found = []
        for each in (each for gang in self.submitted() for each in gang):
            size = each.job.image_bytes + each.job.input_bytes
            for event, following in pairwise(each.events):
                place = event.provider, each.job.image
                if event.event != "fetching" or place in seen:
                    continue
                seen.add(place)
                if following.event == "starting" and size >= FETCH_BYTES_MIN:
                    found.append((size, max(1, following.at_ms - event.at_ms)))
        return found

    def images_at_first(self) -> dict[int, list[int]]:
        """Return the images that nodes had before they prepared a job with them."""
        prepared: dict[tuple[int, int], int] = {}
        for each in self.jobs.values():
            for event in each.events:
                if event.event == "starting" and event.provider is not None:
                    key = event.provider, each.job.image
                    prepared[key] = min(event.at_ms, prepared.get(key, event.at_ms))
        return {
            peer: sorted({
                image for offer in offers for image in offer.images
                if offer.at_ms < prepared.get((peer, image), offer.at_ms + 1)
            })
            for peer, offers in self.offers.items()
        }  # fmt: skip


def read_trace(path: Path) -> Recording:
    """Return what a trace says; InvalidRequest names the line and what is wrong.

    A last line that is cut off is left out.
    """
    try:
        return _read(path, path.stat().st_mtime_ns)
    except OSError as error:
        raise InvalidRequest(f"cannot read {path}: {error.strerror}") from None


@lru_cache(FILES_KEPT_MAX)
def _read(path: Path, modified_ns: int) -> Recording:
    recording = Recording(path)
    *lines, cut_off = path.read_bytes().split(b"\n")
    if not lines:
        lines = [cut_off]
    for number, text in enumerate(lines, 1):
        try:
            line = decode_line(text)
            if number == 1:
                require_version(line)
            _add(recording, line)
        except UnreadableLine as error:
            raise InvalidRequest(f"{path}, line {number}: {error}") from None
    if not recording.offers:
        raise InvalidRequest(f"{path}: no other node lends anything in this trace")
    return recording


def _add(recording: Recording, line: TraceLine) -> None:
    if not isinstance(line, TraceHeader):
        recording.end_ms = max(recording.end_ms, line.at_ms)
    match line:
        case TracedJob(job=number):
            recording.jobs[number] = RecordedJob(line)
        case TracedEvent(job=number):
            if number not in recording.jobs:
                raise UnreadableLine(f"there is no job {number} before it")
            recording.jobs[number].events.append(line)
        case TracedOffer(peer=peer) if peer != OWN:
            recording.offers[peer].append(line)
        case TracedRoundTrip():
            recording.pings_us[line.peer].append(line.round_trip_us)
