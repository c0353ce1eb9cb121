"""The requester's half of the core: jobs that wait, are called for, fail and are tried again.

Spec: specs/core.md#jobs.
"""

from dataclasses import replace
from typing import Any

import pytest

from protocol.core.core import Core
from protocol.core.jobs import Ending
from protocol.core.presence import record_of
from protocol.machines.context import Context, Policy
from protocol.machines.effects import Publish, Reach, Report, Save
from protocol.machines.events import (
    Announced,
    Awarded,
    Done,
    Failed,
    Fetching,
    Queued,
)
from protocol.machines.inputs import (
    DeadlineReached,
    JobCancelled,
    JobSubmitted,
    PeerConnected,
    PeerDisconnected,
)
from protocol.values.ids import JobId
from protocol.values.limits import (
    PEERS_WAIT_MS,
)
from protocol.values.reasons import Failure
from protocol.wire.envelope import Signed
from protocol.wire.messages import (
    AwardAccept,
    CapabilityRecord,
)
from tests.driven import POLICY, START_MS
from tests.simulated_network import SimulatedNetwork, job_spec, provider_policy
from tests.simulated_node import Node
from tests.strategies import SIGNERS

JOB = JobId(bytes(16))


def network_of_two() -> tuple[SimulatedNetwork, Node, Node]:
    network = SimulatedNetwork()
    ann, ben = network.add("ann"), network.add("ben", provider_policy())
    network.meet()
    return network, ann, ben


def record_from(number: int, **changes: Any) -> Signed[CapabilityRecord]:
    """Return the record of a provider with this number; 0 is ourselves."""
    signer = SIGNERS[number]
    record = record_of(Context(START_MS, signer, POLICY), 1)
    return signer.sign(replace(record, **changes))


def happened(node: Node, kind: type) -> bool:
    return any(isinstance(event, kind) for story in node.disk.events.values() for event in story)


def test_a_submitted_job_is_written_down_before_its_call_is_out() -> None:
    core = Core(SIGNERS[0], Policy())
    core.handle(record_from(1), START_MS)
    core.handle(PeerConnected(SIGNERS[1].peer_id), START_MS)
    effects = core.handle(JobSubmitted(JOB, job_spec()), START_MS)
    assert [type(effect) for effect in effects] == [Save, Report, Publish]
    assert effects[0].key == JOB
    assert isinstance(effects[1].event, Announced)


def test_those_who_can_serve_a_job_are_connected_with() -> None:
    core = Core(SIGNERS[0], Policy())
    for number in (1, 2, 3):
        core.handle(record_from(number), START_MS)
    core.handle(record_from(4, cpus=0), START_MS)
    core.handle(PeerConnected(SIGNERS[1].peer_id), START_MS)
    core.handle(PeerConnected(SIGNERS[2].peer_id), START_MS)
    core.handle(PeerDisconnected(SIGNERS[2].peer_id), START_MS)
    effects = core.handle(JobSubmitted(JOB, job_spec()), START_MS)
    missing = (SIGNERS[2].peer_id, SIGNERS[3].peer_id)
    assert [effect for effect in effects if isinstance(effect, Reach)] == [Reach(missing)]


@pytest.mark.parametrize("is_connected", [False, True])
def test_that_nobody_bids_is_explained_by_who_is_beyond_reach(is_connected: bool) -> None:
    core = Core(SIGNERS[0], Policy())
    core.handle(record_from(1), START_MS)
    core.handle(record_from(2, cpus=0), START_MS)
    core.handle(JobSubmitted(JOB, job_spec(queue_ms=0)), START_MS)
    if is_connected:  # By our own dialling, meanwhile.
        core.handle(PeerConnected(SIGNERS[1].peer_id), START_MS)
    reports: list[Report] = []
    while not reports:
        deadline_ms = core.next_deadline_ms()
        assert deadline_ms is not None
        effects = core.handle(DeadlineReached(), deadline_ms)
        reports = [effect for effect in effects if isinstance(effect, Report)]
    ended = reports[0].event
    assert isinstance(ended, Failed)
    assert ended.reason is Failure.NO_BIDS
    assert ended.why.startswith("no bids: 1 of 2 known nodes can serve this job")
    assert ("1 of these is known but unreachable" in ended.why) is not is_connected


def test_a_job_waits_for_a_provider_and_calls_when_one_is_known() -> None:
    core = Core(SIGNERS[0], POLICY)
    save, report = core.handle(JobSubmitted(JOB, job_spec()), START_MS)
    assert isinstance(save, Save)
    assert isinstance(report.event, Queued)
    assert report.event.until_ms == START_MS + job_spec().terms.queue_ms
    assert core.next_deadline_ms() == START_MS + PEERS_WAIT_MS
    for useless in (record_from(0), record_from(1, providing=False)):
        assert core.handle(useless, START_MS) == [], "ourselves, and one that lends nothing"
    effects = core.handle(record_from(2), START_MS + 100)
    assert [type(effect) for effect in effects] == [Report, Reach, Publish]
    (called,) = core.requester.scheduler.auctions.states.values()
    assert effects[0].event.eligible == 1
    assert called.auction.expected == (), "others may appear while the window is open"
    assert core.handle(record_from(2), START_MS + 200) == [], "it calls once"


def test_a_job_that_nobody_appears_for_is_called_for_in_the_end() -> None:
    core = Core(SIGNERS[0], POLICY)
    core.handle(JobSubmitted(JOB, job_spec()), START_MS)
    assert core.handle(DeadlineReached(), START_MS + PEERS_WAIT_MS - 1) == []
    effects = core.handle(DeadlineReached(), START_MS + PEERS_WAIT_MS)
    assert [type(effect) for effect in effects] == [Report, Publish]


def test_a_job_that_waits_is_cancelled_at_once() -> None:
    core = Core(SIGNERS[0], POLICY)
    core.handle(JobSubmitted(JOB, job_spec()), START_MS)
    report, save = core.handle(JobCancelled(JOB), START_MS)
    assert report.event.reason is Failure.CANCELLED
    assert save.state.ending is Ending.CANCELLED
    assert core.next_deadline_ms() is None
    assert core.handle(record_from(1), START_MS) == []


def test_an_attempt_waits_for_somebody_who_has_not_failed_the_job() -> None:
    network, ann, ben = network_of_two()
    network.prepare_fails.add("ben")
    job_id = network.submit(ann)
    assert network.run_until(lambda: bool(ann.core.requester.scheduler.queue))
    network.add("cleo", provider_policy())
    network.meet()
    assert network.run_until(lambda: network.ended(ann, job_id))
    assert ann.job(job_id).ending is Ending.DONE
    assert ann.job(job_id).avoid == (ben.peer_id,)


def test_one_identifier_is_one_job() -> None:
    core = Core(SIGNERS[0], Policy())
    core.handle(JobSubmitted(JOB, job_spec()), START_MS)
    with pytest.raises(AssertionError):
        core.handle(JobSubmitted(JOB, job_spec()), START_MS)


def test_nobody_there_ends_the_job_with_the_reason() -> None:
    network = SimulatedNetwork()
    ann = network.add("ann")
    job_id = network.submit(ann, job_spec(queue_ms=0))
    assert network.run_until(lambda: network.ended(ann, job_id))
    failed = ann.disk.events[job_id][-1]
    assert isinstance(failed, Failed)
    assert failed.reason is Failure.NO_PEERS
    assert ann.job(job_id).ending is Ending.FAILED
    assert not len(ann.core.requester.scheduler.auctions)


def test_cancelling_what_is_not_there_does_nothing() -> None:
    assert Core(SIGNERS[0], POLICY).handle(JobCancelled(JOB), START_MS) == []


def test_an_answer_to_another_award_finds_no_auction() -> None:
    network, ann, ben = network_of_two()
    network.submit(ann)
    assert network.run_until(lambda: happened(ann, Awarded))
    accept = ben.signer.sign(AwardAccept(bytes(32), bytes(32)))
    assert ann.core.handle(accept, network.now_ms) == []


def test_two_jobs_at_once_are_two_stories() -> None:
    network, ann, _ = network_of_two()
    jobs = [network.submit(ann), network.submit(ann)]
    assert network.run_until(lambda: all(network.ended(ann, job_id) for job_id in jobs))
    for job_id in jobs:
        assert isinstance(ann.disk.events[job_id][-1], Done)


def test_cancelling_one_job_leaves_the_other() -> None:
    network, ann, _ = network_of_two()
    kept, dropped = network.submit(ann), network.submit(ann)
    assert network.run_until(lambda: len(ann.core.requester.leases.states) == 2)
    network.cancel(ann, dropped)
    assert network.run_until(lambda: network.ended(ann, kept) and network.ended(ann, dropped))
    assert ann.job(kept).ending is Ending.DONE
    assert ann.job(dropped).ending is Ending.CANCELLED


def test_a_job_whose_auction_was_not_decided_gets_a_new_one() -> None:
    network, ann, _ = network_of_two()
    network.drop = lambda sender, receiver, message: True
    job_id = network.submit(ann)
    network.run(100)
    (old,) = ann.core.requester.scheduler.auctions.states
    network.crash(ann)
    network.drop = lambda sender, receiver, message: False
    network.run(100)
    network.restart(ann)
    assert job_id in ann.core.requester.scheduler.queue
    assert network.run_until(lambda: bool(ann.core.requester.scheduler.auctions.states))
    (new,) = ann.core.requester.scheduler.auctions.states
    assert new != old
    assert network.run_until(lambda: network.ended(ann, job_id))
    assert ann.job(job_id).ending is Ending.DONE


def test_an_ended_job_is_not_begun_again() -> None:
    network, ann, _ = network_of_two()
    job_id = network.submit(ann)
    assert network.run_until(lambda: network.ended(ann, job_id))
    network.crash(ann)
    network.restart(ann)
    assert not ann.core.requester.jobs
    assert not ann.core.requester.scheduler.auctions.states


# What is remembered of a provider.


def test_a_resume_point_is_saved_with_its_job_and_dropped_at_its_end() -> None:
    network, ann, ben = network_of_two()
    network.job_ms = 30_000
    job_id = network.submit(ann, job_spec(checkpoint_ms=10_000))
    assert network.run_until(lambda: ann.job(job_id).resume is not None)
    first = ann.job(job_id).resume
    assert first is not None
    assert (first.number, first.size) == (1, 10_000)
    network.crash(ben, machine=True)
    network.restart(ann)
    network.add("cleo", provider_policy())
    network.meet()
    assert network.run_until(lambda: network.ended(ann, job_id))
    begun = [e.resumes_from for e in ann.disk.events[job_id] if isinstance(e, Fetching)]
    assert begun == [0, 1]
    assert ann.job(job_id).ending is Ending.DONE
    assert ann.job(job_id).resume is None
