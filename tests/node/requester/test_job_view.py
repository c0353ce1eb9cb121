"""A job's view is the fold over its events, in any order that can be, with whatever peers sent.

Spec: specs/core.md#job-events.
"""

import dataclasses
from dataclasses import fields

import pytest

from node.driver.job_events import phase_of
from node.requester.job_view import job_view
from node.rpc.job_views import CheckpointView, JobView, StepsView
from node.rpc.views import PhaseCounts
from node.storage.journal import JobEventRow
from protocol.core.jobs import Job
from protocol.machines import events
from protocol.values.ids import digest_of
from protocol.values.reasons import Failure
from protocol.wire.job import Workload
from tests.node.fixtures import ADA, BEA, JOB, spec_of
from tests.node.requester.sample_events import ANNOUNCED, CALL, SIGNED, WAITING, WAY, done, rows

SPEC = spec_of(Workload(digest_of(b"image"), ("echo", "hi")))


def view(*happened: events.JobEvent) -> JobView:
    return job_view(Job(JOB, SPEC, 1_000), rows(*happened))


def test_every_phase_has_a_count() -> None:
    counted = {field.name for field in fields(PhaseCounts)}
    assert phase_of(rows(WAITING)) == view(WAITING).phase == "queued"
    cancelling = (*WAY[:6], events.Cancelling(BEA.peer_id))
    assert phase_of(rows(*cancelling)) == view(*cancelling).phase == "cancelling"
    assert counted >= {"queued", "cancelling"}
    for number in range(1, len(WAY) + 1):
        assert view(*WAY[:number]).phase in counted
        assert phase_of(rows(*WAY[:number])) == view(*WAY[:number]).phase


def test_the_whole_way() -> None:
    found = view(*WAY, done())
    assert (found.phase, found.exit_code, found.usage_ms, found.attempts) == ("done", 0, 1_500, 1)
    assert (found.provider, found.price_hour, found.runner_up_hour) == (
        BEA.peer_id, "1.0000", None,
    )  # fmt: skip
    assert (found.amount, found.reason, found.why, found.ended_ms) == (
        "0.000416666", None, None, 1_800,
    )  # fmt: skip
    assert found.receipt is not None
    assert len(found.receipt.provider_signature) == 128
    assert found.bids[0].ask_hour == "1.0000"
    steps = found.steps
    assert (steps.announce_ms, steps.award_ms, steps.start_ms, steps.run_ms, steps.return_ms) == (
        100, 300, 200, 100, 100,
    )  # fmt: skip
    assert sum(filter(None, dataclasses.asdict(steps).values())) == 1_800 - 1_000, "nothing is lost"
    assert (found.cost, found.failed_attempts) == (found.amount, ())


def test_a_new_attempt_forgets_what_the_last_one_said() -> None:
    again = events.Announced(CALL, 1, 3, 1)
    found = view(*WAY, events.Retrying(Failure.OUTPUTS_LOST, "gone"), again)
    assert (found.phase, found.attempts, found.bids, found.provider) == ("announced", 2, (), None)
    assert (found.exit_code, found.usage_ms) == (None, None)
    assert (found.reason, found.why) == ("outputs-lost", "gone")
    assert found.steps == StepsView(announce_ms=100), "counted from the failure"
    last = view(*WAY, events.Retrying(Failure.OUTPUTS_LOST, "gone"), *WAY, done()).steps
    assert last == StepsView(100, 300, 200, 100, 100)


def test_an_attempt_on_a_bid_that_stood_by_counts_although_nothing_was_called() -> None:
    awarded = next(event for event in WAY if isinstance(event, events.Awarded))
    found = view(*WAY, events.Retrying(Failure.OUTPUTS_LOST, "gone"), awarded)
    assert (found.phase, found.attempts, found.provider) == ("awarded", 2, awarded.provider)
    assert (found.exit_code, found.usage_ms) == (None, None), "those were of the last one"


def test_checkpoints_and_a_notice() -> None:
    kept = events.Checkpointed(BEA.peer_id, 3, 1_024, digest_of(b"listing"))
    told = events.Preempted(BEA.peer_id, 30_000)
    running = (*WAY[:6], kept, told)
    found = view(*running)
    assert found.phase == phase_of(rows(*running)) == "running"
    assert found.checkpoint == CheckpointView(3, 1_700, 1_024)
    assert (found.resumes_from, found.stops_ms) == (None, 31_800)
    stopped = events.Retrying(Failure.PROVIDER_STOPPED, "it stops", BEA.peer_id)
    again = (*WAY[:3], events.Fetching(BEA.peer_id, 3))
    found = view(*running, stopped, *again)
    assert (found.resumes_from, found.stops_ms) == (3, None)
    assert found.checkpoint == CheckpointView(3, 1_700, 1_024)


def test_no_step_takes_less_than_no_time() -> None:
    happened = rows(*WAY)
    later = [*happened[:-1], dataclasses.replace(happened[-1], at_ms=500)]
    assert job_view(Job(JOB, SPEC, 1_000), later).steps.run_ms == 0, "the clock was set back"


def test_what_failed_attempts_cost_is_told() -> None:
    lost = events.Retrying(Failure.PROVIDER_LOST, "silent", BEA.peer_id, 20_000, 2_000)
    stopped = events.Failed(Failure.PROVIDER_STOPPED, "stopped", ADA.peer_id, 5_000, 500)
    found = view(*WAY, lost, *WAY, stopped)
    assert [dataclasses.astuple(attempt) for attempt in found.failed_attempts] == [
        (1, BEA.peer_id, "provider-lost", "silent", 20_000, "0.000002000"),
        (2, ADA.peer_id, "provider-stopped", "stopped", 5_000, "0.000000500"),
    ]
    assert (found.usage_ms, found.amount, found.cost) == (5_000, None, "0.000002500")
    assert view(*WAY, lost, *WAY, done()).cost == "0.000418666"
    unpaid = view(ANNOUNCED, events.Failed(Failure.NO_BIDS, "nobody"))
    assert (unpaid.cost, unpaid.usage_ms) == (None, None)
    assert [attempt.provider for attempt in unpaid.failed_attempts] == [None]


def test_events_of_an_older_node_are_read() -> None:
    old = JobEventRow(JOB, 2, 1_200, "failed", '{"reason": "provider-lost", "why": "silent"}')
    found = job_view(Job(JOB, SPEC, 1_000), [*rows(ANNOUNCED), old])
    (attempt,) = found.failed_attempts
    assert (attempt.provider, attempt.cost, found.cost) == (None, "0.000000000", None)


@pytest.mark.parametrize("reason, phase", [
    (Failure.NO_BIDS, "failed"), (Failure.CANCELLED, "cancelled"),
])  # fmt: skip
def test_jobs_that_did_not_run(reason: Failure, phase: str) -> None:
    found = view(ANNOUNCED, events.Failed(reason, "so it is"))
    assert (found.phase, found.reason, found.why) == (phase, reason.value, "so it is")
    assert found.ended_ms == 1_200


@pytest.mark.parametrize("reason, told", [
    ("exited", None), ("timeout", "time-out"), ("memory", "out-of-memory"), ("disk", "out-of-disk"),
    ("budget", "budget"),
])  # fmt: skip
def test_why_a_container_ended(reason: str, told: str | None) -> None:
    assert view(*WAY, done(reason=reason, detail="one line")).reason == told
    assert view(*WAY, done(reason=reason, detail="one line")).why == "one line"


@pytest.mark.parametrize("proposal", [
    b"", b"\xff\xff", b"\xc1", b"\x00" * 100, b"\x90", b"\x95\x01\x02\x03\x04\x05", b"\xa3abc",
    b"\x81\x04\x01", SIGNED[:-1], SIGNED + b"x",
])  # fmt: skip
def test_a_bill_that_is_no_envelope_shows_no_signature(proposal: bytes) -> None:
    found = view(*WAY, done(proposal=proposal, countersign=b"", dispute="it is no receipt"))
    assert found.receipt is not None
    assert (found.receipt.provider_signature, found.receipt.requester_signature) == ("", "")
    assert found.why == "it is no receipt"
