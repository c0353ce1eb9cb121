"""Arrays that run only some of their members at once. Spec: specs/arrays.md#limit."""

from collections.abc import Iterator
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from protocol.core.array_limits import ArrayLimits
from protocol.core.jobs import Ending, Job
from protocol.machines.inputs import ArraySubmitted, JobSubmitted
from protocol.values.ids import JobId
from protocol.values.reasons import Failure
from protocol.wire.job import array_of, member_id
from tests.simulated_network import START_MS, SimulatedNetwork, job_spec, provider_policy
from tests.simulated_node import Node

ARRAY = bytes(12)
HOUR_MS = 3_600_000


def members(count: int, max_running: int, **terms: int) -> list[JobSubmitted]:
    spec = replace(job_spec(**terms), max_running=max_running)
    specs = array_of([spec] * count, ARRAY, range(count))
    return [JobSubmitted(member_id(ARRAY, each.index), each) for each in specs]


def jobs(count: int, max_running: int) -> list[Job]:
    return [Job(each.job_id, each.spec, START_MS) for each in members(count, max_running)]


def test_without_a_limit_all_are_admitted() -> None:
    limits = ArrayLimits()
    assert all(limits.admit(job) for job in jobs(5, 0))
    assert limits.leave(jobs(5, 0)[0]) is None


def test_the_lowest_place_follows_one_that_has_ended() -> None:
    limits = ArrayLimits()
    first, second, third, fourth = jobs(4, 1)
    assert [limits.admit(job) for job in (second, fourth, third, first)] == [True] + 3 * [False]
    assert limits.admit(second), "it keeps its place for a further attempt"
    assert limits.leave(third) is None, "it was held, and is cancelled"
    assert limits.leave(second) == first.job_id
    assert limits.admit(first)
    assert limits.leave(first) == fourth.job_id
    assert limits.admit(fourth)
    assert limits.leave(fourth) is None
    assert not limits._arrays


@given(st.integers(1, 4), st.lists(st.tuples(st.booleans(), st.integers(0, 7)), max_size=40))
def test_never_more_than_the_limit_and_never_idle(
    limit: int, steps: list[tuple[bool, int]]
) -> None:
    limits, each = ArrayLimits(), jobs(8, limit)
    running: set[JobId] = set()
    held: set[JobId] = set()
    for comes, number in steps:
        job = each[number]
        if comes and job.job_id not in running | held:
            (running if limits.admit(job) else held).add(job.job_id)
        elif not comes and job.job_id in running | held:
            running.discard(job.job_id)
            held.discard(job.job_id)
            following = limits.leave(job)
            if following is not None:
                held.remove(following)
                assert limits.admit(next(one for one in each if one.job_id == following))
                running.add(following)
        assert len(running) <= limit
        assert not held or len(running) == limit


# --- of a whole network -------------------------------------------------------------------


def submitted(count: int, limit: int, **terms: int) -> tuple[SimulatedNetwork, Node, list[JobId]]:
    network = SimulatedNetwork()
    ann = network.add("ann")
    network.add("ben", provider_policy(cpus=8, memory_mib=16_384))
    network.meet()
    wanted = members(count, limit, **terms)
    network.give(ann, ArraySubmitted(tuple(wanted)))
    return network, ann, [each.job_id for each in wanted]


def with_a_slot(node: Node) -> int:
    requester = node.core.requester
    return len(requester.scheduler.awards.states) + len(requester.leases.states)


def steps_until_all_ended(network: SimulatedNetwork, ann: Node, ids: list[JobId]) -> Iterator[int]:
    """Let time pass in short steps; yield how many members have a slot."""
    for _ in range(600):
        if all(network.ended(ann, job_id) for job_id in ids):
            return
        network.run(100)
        yield with_a_slot(ann)
    raise AssertionError("not all have ended")


def test_all_run_but_never_more_at_once_than_the_limit() -> None:
    network, ann, ids = submitted(7, 2)
    place = ann.core.place_of(*ids[2:])
    assert place is not None
    assert (place.place, place.jobs, place.until_ms) == (3, 7, None)
    assert place.why == "its array runs at most 2 of its jobs at once"
    assert max(steps_until_all_ended(network, ann, ids)) == 2
    assert {ann.job(job_id).ending for job_id in ids} == {Ending.DONE}


def test_the_limit_holds_after_a_restart() -> None:
    network, ann, ids = submitted(7, 2)
    assert network.run_until(lambda: with_a_slot(ann) == 2)
    before = {job_id for job_id in ids if not ann.job(job_id).held}
    network.crash(ann)
    network.restart(ann)
    assert {job_id for job_id in ids if not ann.job(job_id).held} == before
    assert max(steps_until_all_ended(network, ann, ids)) == 2
    assert {ann.job(job_id).ending for job_id in ids} == {Ending.DONE}


def test_the_time_in_the_queue_begins_when_a_job_is_held_no_more() -> None:
    network, ann, ids = submitted(3, 1, cpus=64, queue_ms=HOUR_MS)
    for number, job_id in enumerate(ids, 1):
        network.run(HOUR_MS + 1_000)
        assert network.ended(ann, job_id), number
        assert not any(network.ended(ann, later) for later in ids[number:])
    reasons = [ann.disk.events[job_id][-1].reason for job_id in ids]
    assert reasons == [Failure.NO_MATCH] * 3


def test_a_held_job_is_cancelled_without_a_word_to_anybody() -> None:
    network, ann, ids = submitted(3, 1)
    for job_id in reversed(ids):
        network.cancel(ann, job_id)
    assert network.run_until(lambda: all(network.ended(ann, job_id) for job_id in ids))
    assert {ann.job(job_id).ending for job_id in ids} == {Ending.CANCELLED}
    assert not ann.core.requester.scheduler.queue
    assert [len(ann.disk.events[job_id]) for job_id in ids[1:]] == [1, 1], "only that it ended"
