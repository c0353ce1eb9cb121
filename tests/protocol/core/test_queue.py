"""Waiting jobs: who comes first, who may call, and who has waited for too long.

Spec: specs/queue.md.
"""

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from protocol.core.jobs import Job, JobClass, class_of
from protocol.core.queue import JobQueue
from protocol.values.ids import JobId, PeerId
from protocol.values.limits import PRIORITY_MS, STARVING_MS
from protocol.values.reasons import Failure
from protocol.wire.job import Resources
from tests.driven import START_MS
from tests.simulated_network import job_spec

HOUR_MS = 3_600_000
BUSY = (Failure.NO_BIDS, "all are busy")


def job(number: int, at_ms: int = START_MS, cpus: int = 1, **terms: Any) -> Job:
    return Job(JobId(number.to_bytes(16)), job_spec(cpus=cpus, **terms), at_ms)


def added(queue: JobQueue, *jobs: Job) -> list[JobClass]:
    for each in jobs:
        queue.add(each, class_of(each), START_MS + HOUR_MS)
    return [class_of(each) for each in jobs]


def order_of(queue: JobQueue, job_class: JobClass) -> list[int]:
    """Return the numbers of the jobs of a class in the order in which they get slots."""
    order = []
    while (first := queue.first(job_class)) is not None:
        order.append(int.from_bytes(first.job_id))
        queue.remove(first.job_id)
    return order


def test_the_first_to_come_is_the_first_to_go() -> None:
    queue = JobQueue()
    job_class, *_ = added(queue, job(3), job(1), job(2, START_MS - 1))
    assert order_of(queue, job_class) == [2, 3, 1]
    assert len(queue) == 0
    assert queue.first_ready() is None


def test_a_priority_counts_as_minutes_of_waiting() -> None:
    queue = JobQueue()
    older, newer = job(1, START_MS - PRIORITY_MS - 1), job(2, priority=1)
    job_class, *_ = added(queue, newer, older, job(3, priority=2), job(4, priority=-1))
    assert order_of(queue, job_class) == [3, 1, 2, 4]


@given(st.lists(st.tuples(st.integers(0, 2 * HOUR_MS), st.integers(-10, 10)), max_size=30))
def test_no_job_starves_behind_later_ones(later: list[tuple[int, int]]) -> None:
    """Only jobs that came within 20 steps of priority of a job can be served before it."""
    queue = JobQueue()
    old = job(0, priority=-10)
    (job_class,) = added(queue, old)
    for number, (after_ms, priority) in enumerate(later, 1):
        added(queue, job(number, START_MS + after_ms, priority=priority))
    before = order_of(queue, job_class)
    for number in before[: before.index(0)]:
        assert later[number - 1][0] <= 20 * PRIORITY_MS


def test_the_oldest_class_calls_first_and_once_at_a_time() -> None:
    queue = JobQueue()
    small, large = added(queue, job(1, START_MS + 1), job(2, cpus=4))
    assert queue.first_ready() == large
    queue.begin_call(large)
    assert queue.is_calling(large)
    assert queue.first_ready() == small
    queue.end_call(large)
    assert queue.first_ready() == large
    assert (queue.count(large), queue.count(small)) == (1, 1)


def test_what_nobody_has_capacity_for_waits_and_its_like_with_it() -> None:
    queue = JobQueue()
    one, like, other = added(queue, job(1), job(2, retries=0), job(3, cpus=2))
    like = class_of(replace(job(2), spec=job_spec(queue_ms=0)))
    assert like == one
    queue.block(one.block_key, BUSY, START_MS, START_MS + 1_000)
    assert queue.first_ready() == other
    assert [key for key, _ in queue.blocked()] == [one.block_key]
    assert queue.next_deadline_ms() == START_MS + 1_000
    queue.wake_due(START_MS + 999)
    assert queue.first_ready() == other
    queue.wake_due(START_MS + 1_000)
    assert queue.first_ready() == one
    queue.block(one.block_key, BUSY, START_MS + 1_000, START_MS + 3_000)
    assert queue.failures(one.block_key) == 2
    queue.forget_block(one.block_key)
    assert (queue.first_ready(), queue.failures(one.block_key)) == (one, 0)


def test_those_that_avoid_a_provider_wait_alone() -> None:
    queue = JobQueue()
    first, retried = added(queue, job(1), replace(job(2), avoid=(PeerId("ben"),)))
    queue.block(retried.block_key, BUSY, START_MS, START_MS + 1_000)
    assert queue.first_ready() == first


def test_a_hint_wakes_the_oldest_that_waits_for_such_resources() -> None:
    queue = JobQueue()
    classes = added(queue, job(1, rate_max=7), job(2, START_MS - 1, rate_max=8), job(3, cpus=2))
    for job_class in classes:
        queue.block(job_class.block_key, BUSY, START_MS, START_MS + 9_000)
    queue.wake_oldest(Resources(cpus=1))
    assert queue.first_ready() == classes[1]
    assert len(queue.blocked()) == 2
    queue.wake_oldest(Resources(cpus=16))
    assert len(queue.blocked()) == 2


def test_a_job_that_waited_too_long_for_busy_nodes_starves() -> None:
    queue = JobQueue()
    large, small, lonely = added(queue, job(1, cpus=4), job(2, START_MS - 1), job(3, cpus=9))
    queue.block(large.block_key, BUSY, START_MS, START_MS + 1_000)
    queue.block(lonely.block_key, (Failure.NO_MATCH, "none"), START_MS, START_MS + 1_000)
    assert queue.starving(START_MS + STARVING_MS - 1) is None
    starving = queue.starving(START_MS + STARVING_MS)
    assert starving == (large.block_key, queue.order_of(large))
    assert queue.order_of(small) < starving[1], "who came before it goes on"
    queue.forget_block(large.block_key)
    assert queue.starving(START_MS + STARVING_MS) is None


def test_a_job_gives_up_at_its_deadline() -> None:
    queue = JobQueue()
    (job_class,) = added(queue, job(1))
    assert queue.take_expired(START_MS + HOUR_MS - 1) == []
    assert queue.take_expired(START_MS + HOUR_MS) == [job(1).job_id]
    queue.postpone(job(1).job_id, START_MS + HOUR_MS + 5)
    assert queue.next_deadline_ms() == START_MS + HOUR_MS + 5
    assert queue.reason_of(job(1).job_id) == (Failure.NO_BIDS, "no slot became free")
    queue.block(job_class.block_key, BUSY, START_MS, START_MS + 1)
    assert queue.reason_of(job(1).job_id) == BUSY
    queue.remove(job(1).job_id)
    assert queue.next_deadline_ms() is None
    assert queue.blocked() == [], "nothing is remembered of jobs that are gone"


def test_a_user_is_told_the_place_and_the_reason() -> None:
    queue = JobQueue()
    job_class, *_ = added(queue, job(1), job(2), job(3, cpus=2))
    place = queue.place_of(job(2).job_id)
    assert place is not None
    assert (place.place, place.jobs, place.why, place.retry_ms) == (2, 3, "", None)
    assert place.until_ms == START_MS + HOUR_MS
    queue.block(job_class.block_key, BUSY, START_MS, START_MS + 1_000)
    place = queue.place_of(job(2).job_id)
    assert place is not None
    assert (place.why, place.retry_ms) == ("all are busy", START_MS + 1_000)
    assert queue.place_of(job(9).job_id) is None


@given(st.permutations(range(6)), st.sets(st.integers(0, 5)), st.sets(st.integers(0, 5)))
def test_places_follow_the_order_whoever_leaves(
    arrived: list[int], gone: set[int], asked: set[int]
) -> None:
    queue = JobQueue()
    added(queue, *(job(number, START_MS + number) for number in arrived))
    for number in gone:
        queue.remove(job(number).job_id)
    left = [number for number in range(6) if number not in gone]
    for place, number in enumerate(left, 1):
        found = queue.place_of(job(number).job_id)
        assert found is not None
        assert (found.place, found.jobs) == (place, len(left))
    first = queue.place_of(*(job(number).job_id for number in asked))
    waiting = [number for number in left if number in asked]
    assert (first and first.place) == (left.index(waiting[0]) + 1 if waiting else None)


def test_a_job_that_is_held_has_a_place_but_no_deadline_and_no_call() -> None:
    queue = JobQueue()
    spec = replace(job_spec(), max_running=2)
    held = replace(job(1), spec=spec)
    queue.hold(held, class_of(held))
    assert (queue.first_ready(), queue.next_deadline_ms(), len(queue)) == (None, None, 1)
    assert queue.count(class_of(held)) == 0
    added(queue, job(2))
    place = queue.place_of(held.job_id)
    assert place is not None
    assert (place.place, place.jobs, place.retry_ms, place.until_ms) == (1, 2, None, None)
    assert "at most 2" in place.why
    assert queue.remove(held.job_id) == held


def test_members_of_an_array_keep_their_order_when_they_come_again() -> None:
    queue = JobQueue()
    members = [replace(job(n), spec=replace(job_spec(), place=n)) for n in range(3)]
    job_class, *_ = added(queue, *members)
    queue.remove(members[0].job_id)
    added(queue, members[0])
    assert order_of(queue, job_class) == [0, 1, 2]


def test_a_demand_for_which_nobody_waits_any_more_is_not_blocked() -> None:
    queue = JobQueue()
    (job_class,) = added(queue, job(1))
    queue.begin_call(job_class)
    queue.remove(job(1).job_id)
    queue.block(job_class.block_key, BUSY, START_MS, START_MS + 1_000)
    assert queue.next_deadline_ms() is None
    assert queue.starving(START_MS + STARVING_MS + 1) is None
    queue.wake_oldest(Resources(1))
    assert queue.first_ready() is None
