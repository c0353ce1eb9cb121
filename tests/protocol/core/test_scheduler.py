"""The way of a job from the queue to a lease, in networks of a few nodes.

Spec: specs/queue.md.
"""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.core.jobs import Ending
from protocol.machines.events import Announced, Awarded, Done, Failed, Queued, Running
from protocol.machines.inputs import JobCancelled
from protocol.values.ids import JobId
from protocol.values.limits import AUCTIONS_MAX, OTHERS_WAIT_MS, STARVING_MS
from protocol.values.reasons import Failure
from protocol.wire.messages import AwardAccept, CapacityFree
from tests.simulated_network import SimulatedNetwork, job_spec, provider_policy
from tests.simulated_node import Node

HOUR_MS = 3_600_000


def network_of(*cpus: int, **more: Any) -> tuple[SimulatedNetwork, Node]:
    """Return a network of one requester and providers with so many processors."""
    network = SimulatedNetwork(**more)
    ann = network.add("ann")
    for number, count in enumerate(cpus):
        network.add(f"ben{number}", provider_policy(1_000 + number, count))
    network.meet()
    return network, ann


def events(node: Node, kind: type) -> list[Any]:
    return [event for told in node.disk.events.values() for event in told
            if isinstance(event, kind)]  # fmt: skip


def all_done(network: SimulatedNetwork, node: Node, jobs: list[JobId], limit_ms: int) -> bool:
    open_jobs = node.core.requester.jobs
    ended = network.run_until(lambda: not any(job in open_jobs for job in jobs), limit_ms)
    return ended and all(node.job(job).ending is Ending.DONE for job in jobs)


def test_a_hundred_jobs_on_four_small_providers_all_finish_in_few_auctions() -> None:
    network, ann = network_of(2, 2, 2, 2, job_ms=200)
    jobs = [network.submit(ann) for _ in range(100)]
    begun_ms = network.now_ms
    assert all_done(network, ann, jobs, 60_000)
    assert len(events(ann, Announced)) <= 8
    assert len(events(ann, Awarded)) < 110, "few awards are declined"
    slots_ms = 8 * (network.now_ms - begun_ms)
    assert slots_ms // 3 < 100 * 200, "the slots are in use, in spite of the first window"


def test_jobs_of_two_requesters_share_one_slot() -> None:
    network, ann = network_of(1)
    amy = network.add("amy")
    network.meet()
    jobs = [(node, network.submit(node)) for node in (ann, amy) * 3]
    over = network.run_until(lambda: all(network.ended(*each) for each in jobs), 10 * 60_000)
    assert over
    assert {node.job(job).ending for node, job in jobs} == {Ending.DONE}


def test_a_job_waits_as_long_as_its_user_allows_and_then_says_why() -> None:
    network, ann = network_of(1, job_ms=HOUR_MS)
    network.submit(ann)
    network.run(3_000)
    job = network.submit(ann, job_spec(queue_ms=30_000))
    network.run(20_000)
    place = ann.core.place_of(job)
    assert place is not None
    assert (place.place, place.jobs) == (1, 1)
    assert "busy" in place.why
    assert network.run_until(lambda: network.ended(ann, job), 20_000)
    (failed,) = events(ann, Failed)
    assert failed.reason is Failure.NO_BIDS
    assert failed.why.endswith("(it waited for 30 s)")


def test_a_user_hears_once_that_a_job_waits() -> None:
    network, ann = network_of(1, job_ms=HOUR_MS)
    network.submit(ann)
    network.run(3_000)
    network.submit(ann, job_spec(rate_max=50_000))
    network.run(120_000)
    (queued,) = events(ann, Queued)
    assert queued.reason is Failure.NO_BIDS
    assert "capacity is free again in" in queued.why


@pytest.mark.parametrize("rate_max", [100_000, 0], ids=["a price", "no price"])
@pytest.mark.parametrize("queue_ms", [0, HOUR_MS])
def test_what_no_node_can_serve_waits_for_one_that_can(queue_ms: int, rate_max: int) -> None:
    network, ann = network_of(2)
    job = network.submit(ann, job_spec(rate_max, cpus=8, queue_ms=queue_ms))
    network.run(20_000)
    if queue_ms == 0:
        assert [event.reason for event in events(ann, Failed)] == [Failure.NO_MATCH]
        return
    assert [event.reason for event in events(ann, Queued)] == [Failure.NO_MATCH]
    network.add("cleo", provider_policy(cpus=8))
    network.meet()
    assert all_done(network, ann, [job], 10_000), "its record wakes the job"


def test_a_job_that_all_have_failed_waits_a_minute_for_another_node() -> None:
    network, ann = network_of(2)
    network.prepare_fails.add("ben0")
    first = network.submit(ann)
    assert network.run_until(lambda: bool(events(ann, Queued)))
    network.add("cleo", provider_policy())
    network.meet()
    assert all_done(network, ann, [first], 60_000)
    network.prepare_fails.add("cleo")
    second = network.submit(ann)
    begun_ms = network.now_ms
    assert network.run_until(lambda: network.ended(ann, second), 300_000)
    assert ann.job(second).ending is Ending.FAILED
    assert network.now_ms - begun_ms < 2 * OTHERS_WAIT_MS


def test_a_large_job_does_not_starve_behind_smaller_ones() -> None:
    network, ann = network_of(4, job_ms=5_000)
    small = [network.submit(ann) for _ in range(8)]
    network.run(4_000)
    large = network.submit(ann, job_spec(cpus=4))
    more: list[JobId] = []

    def submit() -> None:
        more.append(network.submit(ann))
        network.after(1_000, submit)

    submit()
    assert network.run_until(lambda: network.ended(ann, large), STARVING_MS + 60_000)
    assert ann.job(large).ending is Ending.DONE
    assert all(network.ended(ann, job) for job in small)
    assert any(not network.ended(ann, job) for job in more), "they waited for it"


def test_few_auctions_are_open_at_a_time() -> None:
    network, ann = network_of(64)
    for number in range(3 * AUCTIONS_MAX):
        network.submit(ann, job_spec(rate_max=50_000 + number))
    assert len(ann.core.requester.scheduler.auctions) == AUCTIONS_MAX
    jobs = list(ann.core.requester.jobs)
    assert all_done(network, ann, jobs, 120_000)


def test_a_cancelled_job_leaves_the_queue_and_the_others_go_on() -> None:
    network, ann = network_of(1, job_ms=10_000)
    jobs = [network.submit(ann) for _ in range(3)]
    network.run(5_000)
    for job in jobs[1:2]:
        network.cancel(ann, job)
    assert network.ended(ann, jobs[1])
    assert all_done(network, ann, [jobs[0], jobs[2]], 60_000)
    assert ann.core.handle(JobCancelled(jobs[0]), network.now_ms) == []


def test_a_provider_that_falls_silent_at_the_award_costs_its_job_another_slot() -> None:
    network, ann = network_of(1, 1)
    network.drop = lambda sender, receiver, message: (
        sender == "ben0" and isinstance(message, AwardAccept)
    )
    job = network.submit(ann)
    assert all_done(network, ann, [job], 20_000)
    assert [event.provider for event in events(ann, Running)] == [
        next(node.peer_id for node in network.nodes.values() if node.name == "ben1")
    ]


def test_a_job_that_got_a_slot_hears_no_more_of_the_auction_that_it_began() -> None:
    network, ann = network_of(1, 1, job_ms=500)
    first = network.submit(ann)
    assert network.run_until(lambda: bool(events(ann, Running)))
    network.drop = lambda sender, receiver, message: sender == "ben1"  # The call waits for it.
    second = network.submit(ann)  # It calls; then the first one leaves its slot.
    assert all_done(network, ann, [first, second], 20_000)
    network.run(10_000)
    told = ann.disk.events[second]
    assert isinstance(told[0], Announced)
    assert isinstance(told[-1], Done), "the end is the last thing that its user hears"


def test_a_hint_about_an_unknown_call_does_nothing() -> None:
    network, ann = network_of(1)
    hint = next(iter(network.nodes.values())).signer.sign(CapacityFree(bytes(32)))
    assert ann.core.handle(hint, network.now_ms) == []


@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(0, 4_000)), min_size=1, max_size=12),
    st.lists(st.integers(1, 4), min_size=1, max_size=3),
    st.integers(0, 9),
)
@settings(max_examples=25, deadline=None)
def test_every_job_that_fits_somewhere_is_done_in_the_end(
    wanted: list[tuple[int, int]], cpus: list[int], seed: int
) -> None:
    network, ann = network_of(*cpus, 3, seed=seed, job_ms=1_000)
    jobs = []
    for count, pause_ms in wanted:
        jobs.append(network.submit(ann, job_spec(cpus=count)))
        network.run(pause_ms)
    assert all_done(network, ann, jobs, 30 * 60_000)
    assert not ann.core.status(network.now_ms).illegal
    started = Counter(event.provider for event in events(ann, Running))
    assert started.total() == len(jobs)
