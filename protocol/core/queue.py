"""The queue: jobs that wait for a slot.

Spec: specs/queue.md. Jobs whose calls would be equal form a class, and share auctions and slots.
Classes with the same demand share what their auctions learn: if nobody has capacity for one, none
calls for a while.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from protocol.core.jobs import BlockKey, Job, JobClass
from protocol.core.running import LazyHeap, earliest
from protocol.values.ids import JobId
from protocol.values.limits import PRIORITY_MS, STARVING_MS
from protocol.values.reasons import Failure
from protocol.wire.job import Resources

PLACE_BITS: Final = 14
"""The part of an order that puts members of an array, submitted at once, in their order ..."""
ADDED_BITS: Final = 40
"""... and the part that tells all other jobs of the same millisecond apart."""


@dataclass(frozen=True, slots=True)
class Block:
    """Why jobs of a demand do not call for bids now."""

    reason: Failure
    why: str
    since_ms: int
    """Since when they have been blocked without a break."""
    until_ms: int
    failures: int
    """The number of auctions in a row that sold them nothing."""

    @property
    def is_busy(self) -> bool:
        """Whether a node that could serve them is at work for others."""
        return self.reason in {Failure.NO_BIDS, Failure.EXHAUSTED}


@dataclass(frozen=True, slots=True)
class QueuePlace:
    """A job's place in the queue, for its user."""

    place: int
    """1 for the next job."""
    jobs: int
    """The number of all waiting jobs."""
    why: str
    """Why it waits; empty if only for its turn."""
    retry_ms: int | None
    """When it calls again; None if it does so at its turn."""
    until_ms: int | None
    """When it gives up; None while it waits for others of its array."""


@dataclass(slots=True)
class _Waiting:
    """One waiting job."""

    job: Job
    job_class: JobClass
    order: int
    """Lower comes first."""
    until_ms: int | None
    """None if it is held."""
    has_called: bool = False


@dataclass(slots=True)
class _Line:
    """The waiting jobs of one class."""

    job_class: JobClass
    jobs: LazyHeap[JobId] = field(default_factory=LazyHeap)
    calling: bool = False
    """Whether an auction for them is open."""


class JobQueue:
    """Waiting jobs by order: first come, first served, and each priority counts as some minutes.

    So no job starves: in time, the oldest comes first, whatever priorities later jobs have.
    """

    def __init__(self) -> None:
        self._waiting: dict[JobId, _Waiting] = {}
        self._orders: list[int] = []
        """The orders of all waiting jobs, sorted: an order's index is the place of its job."""
        self._lines: dict[JobClass, _Line] = {}
        self._lines_of: dict[BlockKey, dict[JobClass, _Line]] = {}
        """The same lines by what may block them."""
        self._ready: LazyHeap[JobClass] = LazyHeap()
        """Classes that may call for bids, by the order of their first job."""
        self._expiry: LazyHeap[JobId] = LazyHeap()
        self._blocks: dict[BlockKey, Block] = {}
        self._unblock: LazyHeap[BlockKey] = LazyHeap()
        self._added = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, job_id: JobId) -> bool:
        return job_id in self._waiting

    def add(self, job: Job, job_class: JobClass, until_ms: int) -> None:
        """Add a job of a class, which gives up at `until_ms`."""
        order = self._enter(job, job_class, until_ms)
        self._expiry.set(job.job_id, until_ms)
        if job_class not in self._lines:
            self._lines[job_class] = line = _Line(job_class)
            self._lines_of.setdefault(job_class.block_key, {})[job_class] = line
        line = self._lines[job_class]
        line.jobs.set(job.job_id, order)
        self._sort(line)

    def hold(self, job: Job, job_class: JobClass) -> None:
        """Let a job wait for others of its array: it has a place, but no deadline and no call."""
        self._enter(job, job_class, None)

    def remove(self, job_id: JobId) -> Job:
        """Remove and return a job: it has a slot, was cancelled, gives up, or is held no more."""
        left = self._waiting.pop(job_id)
        del self._orders[bisect_left(self._orders, left.order)]
        if left.until_ms is None:
            return left.job
        line = self._lines[left.job_class]
        self._expiry.discard(job_id)
        line.jobs.discard(job_id)
        self._sort(line)
        key = line.job_class.block_key
        if not line.jobs:
            del self._lines[line.job_class], self._lines_of[key][line.job_class]
            if not self._lines_of[key]:
                del self._lines_of[key]
                self._blocks.pop(key, None)
                self._unblock.discard(key)
        return left.job

    def job(self, job_id: JobId) -> Job:
        """Return a waiting job."""
        return self._waiting[job_id].job

    def note_call(self, job_id: JobId) -> bool:
        """Record that a job calls for bids; return whether it has done so before."""
        waiting = self._waiting[job_id]
        known, waiting.has_called = waiting.has_called, True
        return known

    def count(self, job_class: JobClass) -> int:
        """Return how many jobs of a class wait."""
        return len(self._lines[job_class].jobs) if job_class in self._lines else 0

    def first(self, job_class: JobClass) -> Job | None:
        """Return the first waiting job of a class; None if none waits."""
        first = self._lines[job_class].jobs.first() if job_class in self._lines else None
        return None if first is None else self.job(first[1])

    def classes(self) -> Iterator[JobClass]:
        """Yield the classes of waiting jobs."""
        return iter(tuple(self._lines))

    def first_ready(self) -> JobClass | None:
        """Return the class that may call for bids next; None if all wait for something."""
        first = self._ready.first()
        return first and first[1]

    def is_calling(self, job_class: JobClass) -> bool:
        """Return whether an auction for waiting jobs of a class is open."""
        return job_class in self._lines and self._lines[job_class].calling

    def begin_call(self, job_class: JobClass) -> None:
        """Record that an auction for a class is open."""
        self._lines[job_class].calling = True
        self._sort(self._lines[job_class])

    def end_call(self, job_class: JobClass) -> None:
        """Record that the auction for a class is over."""
        if job_class in self._lines:
            self._lines[job_class].calling = False
            self._sort(self._lines[job_class])

    def block(
        self, key: BlockKey, because: tuple[Failure, str], now_ms: int, until_ms: int
    ) -> None:
        """Let the jobs of a demand wait, for a reason, until they may call again."""
        if key not in self._lines_of:
            return  # The last job left while its auction was open.
        before = self._blocks.get(key)
        since_ms, failures = (before.since_ms, before.failures) if before else (now_ms, 0)
        self._blocks[key] = Block(*because, since_ms, until_ms, failures + 1)
        self._unblock.set(key, until_ms)
        self._sort_all(key)

    def failures(self, key: BlockKey) -> int:
        """Return how many auctions in a row have sold a demand nothing."""
        return self._blocks[key].failures if key in self._blocks else 0

    def wake(self, key: BlockKey) -> None:
        """Let the jobs of a demand call again now; it stays known for how long they waited."""
        self._unblock.discard(key)
        self._sort_all(key)

    def wake_oldest(self, resources: Resources) -> None:
        """Let the oldest job of a demand call again that waits for busy nodes and these resources.

        Only one: there may be capacity for only one.
        """
        keys = [
            key for key, block in self.blocked()
            if block.is_busy and key[0].resources == resources
        ]  # fmt: skip
        if keys:
            self.wake(min(keys, key=self._first_order))

    def forget_block(self, key: BlockKey) -> None:
        """Let the jobs of a demand call again: one of them was sold a slot."""
        self._blocks.pop(key, None)
        self.wake(key)

    def blocked(self) -> list[tuple[BlockKey, Block]]:
        """Return the demands that may not call now."""
        return [(key, block) for key, block in self._blocks.items() if key in self._unblock]

    def reason_of(self, job_id: JobId) -> tuple[Failure, str]:
        """Return why a job waits."""
        block = self._blocks.get(self._waiting[job_id].job_class.block_key)
        return (block.reason, block.why) if block else (Failure.NO_BIDS, "no slot became free")

    def block_of(self, key: BlockKey) -> Block | None:
        """Return why the jobs of a demand may not call now; None if they may."""
        return self._blocks.get(key) if key in self._unblock else None

    def postpone(self, job_id: JobId, until_ms: int) -> None:
        """Let a job wait longer."""
        self._waiting[job_id].until_ms = until_ms
        self._expiry.set(job_id, until_ms)

    def hasten(self, job_id: JobId, until_ms: int) -> None:
        """Let a job wait no longer than this."""
        if until_ms < self.until_of(job_id):
            self.postpone(job_id, until_ms)

    def until_of(self, job_id: JobId) -> int:
        """Return when a waiting job that is not held gives up."""
        until_ms = self._waiting[job_id].until_ms
        assert until_ms is not None
        return until_ms

    def take_expired(self, now_ms: int) -> list[JobId]:
        """Return the jobs that give up now. The caller must remove each."""
        return self._expiry.take_up_to(now_ms)

    def wake_due(self, now_ms: int) -> None:
        """Let those jobs call again whose pause is over."""
        for key in self._unblock.take_up_to(now_ms):
            self._sort_all(key)

    def next_deadline_ms(self) -> int | None:
        """Return when the next job gives up or may call again; None if there is none."""
        firsts = (self._expiry.first(), self._unblock.first())
        return earliest(*(first[0] if first else None for first in firsts))

    def starving(self, now_ms: int) -> tuple[BlockKey, int] | None:
        """Return the oldest demand that has waited too long for busy nodes, and its order."""
        oldest = None
        for key, block in self._blocks.items():
            if not block.is_busy or now_ms < block.since_ms + STARVING_MS:
                continue
            order = self._first_order(key)
            if oldest is None or order < oldest[1]:
                oldest = key, order
        return oldest

    def order_of(self, job_class: JobClass) -> int:
        """Return the order of the first job of a class."""
        return self._order_of(self._lines[job_class])

    def place_of(self, *job_ids: JobId) -> QueuePlace | None:
        """Return the place of the first of some jobs; None if none of them waits."""
        waiting = (self._waiting[job_id] for job_id in job_ids if job_id in self._waiting)
        own = min(waiting, key=lambda each: each.order, default=None)
        if own is None:
            return None
        place = 1 + bisect_left(self._orders, own.order)
        if own.until_ms is None:
            why = f"its array runs at most {own.job.spec.max_running} of its jobs at once"
            return QueuePlace(place, len(self), why, None, None)
        key = own.job_class.block_key
        known, pausing = self._blocks.get(key), self.block_of(key)
        return QueuePlace(
            place, len(self), known.why if known else "",
            pausing.until_ms if pausing else None, own.until_ms,
        )  # fmt: skip

    def _enter(self, job: Job, job_class: JobClass, until_ms: int | None) -> int:
        """Give a job its place, and return its order."""
        self._added += 1
        since_ms = job.submitted_ms - job.spec.terms.priority * PRIORITY_MS
        order = (((since_ms << PLACE_BITS) + job.spec.place) << ADDED_BITS) + self._added
        self._waiting[job.job_id] = _Waiting(job, job_class, order, until_ms)
        insort(self._orders, order)
        return order

    def _order_of(self, line: _Line) -> int:
        first = line.jobs.first()
        assert first is not None
        return first[0]

    def _sort_all(self, key: BlockKey) -> None:
        for line in self._lines_of.get(key, {}).values():
            self._sort(line)

    def _first_order(self, key: BlockKey) -> int:
        return min(map(self._order_of, self._lines_of[key].values()))

    def _sort(self, line: _Line) -> None:
        """Enter a class into the ready ones, or take it out."""
        if not line.jobs or line.calling or line.job_class.block_key in self._unblock:
            self._ready.discard(line.job_class)
        else:
            self._ready.set(line.job_class, self._order_of(line))
