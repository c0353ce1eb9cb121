"""Jobs between their attempts.

Spec: specs/core.md#jobs.
"""

from dataclasses import replace

import pytest

from protocol.core.jobs import (
    JOBS_FAULT,
    SUSPECT,
    WORTH_RETRYING,
    Ending,
    Job,
    ResumePoint,
    after_failure,
    call_for,
    class_of,
    nodes_at_fault,
    workload_of,
)
from protocol.machines.context import Context, Policy
from protocol.machines.effects import Report
from protocol.machines.events import Done, Failed
from protocol.rules.standing import FAILURE, STRANGER, Standing
from protocol.rules.standing import JOB as JOB_DONE
from protocol.values.ids import JobId, PeerId, digest_of
from protocol.values.limits import REUSE_MS, STRANGERS_BELIEVED
from protocol.values.reasons import Failure
from protocol.wire.codec import encode
from protocol.wire.job import QUICK, VICKREY, BlobRef, EnvVar, FileRef, array_of
from protocol.wire.messages import Call
from tests.driven import START_MS
from tests.simulated_network import job_spec
from tests.strategies import SIGNERS

CONTEXT = Context(START_MS, SIGNERS[0], Policy(addresses=("/a", "/b", "/c", "/d")))
JOB = Job(JobId(bytes(16)), job_spec(retries=2), START_MS)
IMPATIENT = replace(JOB, spec=job_spec(retries=2, queue_ms=0))
BEN, CLEO = SIGNERS[1].peer_id, SIGNERS[2].peer_id
STRANGERS = tuple(PeerId(f"stranger {number}") for number in range(STRANGERS_BELIEVED))


def test_an_attempt_continues_from_the_newest_checkpoint() -> None:
    assert workload_of(JOB) == JOB.spec.workload
    listing = BlobRef(digest_of(b"listing"), 9)
    resumed = replace(JOB, resume=ResumePoint(3, listing, 100))
    assert workload_of(resumed) == replace(JOB.spec.workload, resume=(listing,))
    following = failed(resumed, Failure.PROVIDER_LOST)
    assert following.resume == resumed.resume
    assert class_of(resumed).key == class_of(JOB).key, "it uses the same auctions"


def failed(job: Job, reason: Failure, peer: PeerId = BEN, exit_class: str = "") -> Job:
    return after_failure(job, Failed(reason, "why", peer), exit_class)[0]


def test_what_is_worth_it_is_tried_again_without_the_one_that_failed() -> None:
    second = failed(IMPATIENT, Failure.PROVIDER_LOST)
    assert (second.attempt, second.avoid, second.ending) == (1, (BEN,), Ending.OPEN)
    third = failed(second, Failure.EXHAUSTED, PeerId(""))
    assert (third.attempt, third.avoid, third.ending) == (2, (BEN,), Ending.OPEN)
    assert failed(third, Failure.PROVIDER_LOST, CLEO).ending is Ending.FAILED


def test_a_job_that_has_waited_for_all_its_time_is_not_tried_again() -> None:
    assert failed(JOB, Failure.EXHAUSTED, PeerId("")).ending is Ending.FAILED


def test_a_job_whose_slot_stays_busy_waits_for_another_at_no_cost() -> None:
    once = failed(IMPATIENT, Failure.SLOT_BUSY)
    assert once == replace(IMPATIENT, attempt=1)
    assert failed(once, Failure.SLOT_BUSY) == replace(IMPATIENT, attempt=2)


@pytest.mark.parametrize("reason", sorted(set(Failure) - WORTH_RETRYING - {Failure.SLOT_BUSY}))
def test_what_is_not_worth_it_ends_the_job(reason: Failure) -> None:
    expected = Ending.CANCELLED if reason is Failure.CANCELLED else Ending.FAILED
    assert failed(JOB, reason) == replace(JOB, ending=expected)


@pytest.mark.parametrize("reason", sorted(SUSPECT))
@pytest.mark.parametrize("served", [BEN, CLEO])
def test_the_same_failure_on_two_nodes_is_the_jobs_fault_if_one_has_served_us(
    reason: Failure, served: PeerId
) -> None:
    def standing_of(peer: PeerId) -> Standing:
        return Standing(done=JOB_DONE) if peer == served else STRANGER

    once, told = after_failure(JOB, Failed(reason, "no image", BEN), "", standing_of)
    assert (once.ending, told.why) == (Ending.OPEN, "no image"), "one node alone proves nothing"
    twice, told = after_failure(once, Failed(reason, "no image", CLEO), "", standing_of)
    assert twice.ending is Ending.FAILED
    assert told.why == f"no image{JOBS_FAULT}"
    again, told = after_failure(once, Failed(reason, "no image", BEN), "", standing_of)
    assert (again.ending, told.why) == (Ending.OPEN, "no image"), "it is one node"


@pytest.mark.parametrize("reason", sorted(SUSPECT))
def test_strangers_are_believed_if_they_are_many(reason: Failure) -> None:
    job = JOB
    for peer in STRANGERS[:-1]:
        job = failed(job, reason, peer)
        assert job.ending is Ending.OPEN, "keys cost nothing"
    assert job.is_doubted
    ended, told = after_failure(job, Failed(reason, "no image", STRANGERS[-1]))
    assert (ended.ending, told.why) == (Ending.FAILED, f"no image{JOBS_FAULT}")


def test_two_strangers_are_believed_if_there_are_no_others() -> None:
    told = Failed(Failure.SANDBOX_FAILED, "no device", CLEO)
    assert after_failure(JOB, told, strangers=2)[0].ending is Ending.OPEN
    once = failed(JOB, Failure.SANDBOX_FAILED)
    assert after_failure(once, told, strangers=2)[0].ending is Ending.FAILED


def test_who_failed_us_more_than_it_served_us_is_not_believed() -> None:
    liar = Standing(done=JOB_DONE, failed=FAILURE)
    once = failed(JOB, Failure.SANDBOX_FAILED)
    told = Failed(Failure.SANDBOX_FAILED, "no device", CLEO)
    assert after_failure(once, told, "", lambda peer: liar)[0].ending is Ending.OPEN


def test_what_nobody_started_uses_none_of_the_retries() -> None:
    job = failed(failed(JOB, Failure.SANDBOX_FAILED), Failure.PREPARE_FAILED, CLEO)
    job = failed(failed(job, Failure.PROVIDER_LOST), Failure.PROVIDER_LOST)
    assert (job.attempt, job.ending) == (4, Ending.OPEN)
    assert failed(job, Failure.PROVIDER_LOST).ending is Ending.FAILED


def test_doubted_jobs_are_a_class_of_their_own() -> None:
    """They go to other nodes than a job that its first node left."""
    doubted, left = (failed(JOB, why) for why in (Failure.SANDBOX_FAILED, Failure.PROVIDER_LOST))
    assert class_of(doubted).key == class_of(left).key
    assert class_of(doubted) != class_of(left)


@pytest.mark.parametrize("reason", sorted(WORTH_RETRYING - SUSPECT - {Failure.UNPAID}))
def test_what_a_job_cannot_cause_is_never_its_fault(reason: Failure) -> None:
    assert failed(failed(IMPATIENT, reason), reason, CLEO).ending is Ending.OPEN


def test_errors_of_the_job_have_a_budget_of_their_own() -> None:
    job = JOB
    for code in range(5):
        job = failed(job, Failure.EXITED, SIGNERS[code].peer_id, f"exit code {code + 1}")
    assert (job.attempt, job.ending) == (5, Ending.OPEN)
    assert job.exits_seen == tuple(f"exit code {code + 1}" for code in range(5))
    job = failed(failed(job, Failure.PROVIDER_LOST), Failure.PROVIDER_LOST)
    assert (job.attempt, job.ending) == (7, Ending.OPEN)
    assert failed(job, Failure.PROVIDER_LOST).ending is Ending.FAILED


def done(exit_code: int) -> list[Report]:
    return [Report(JOB.job_id, Done(exit_code, "exited", "", 1, 1, bytes(32), b"", b"", ""))]


def test_who_failed_what_another_has_done_is_at_fault() -> None:
    job = failed(failed(JOB, Failure.EXITED, BEN, "memory"), Failure.PREPARE_FAILED, CLEO)
    assert nodes_at_fault(job, done(0)) == [BEN, CLEO]
    assert nodes_at_fault(job, done(1)) == [], "it may be the job's"
    assert nodes_at_fault(failed(JOB, Failure.PROVIDER_LOST), done(0)) == [], "it was struck"


def call_of(job: Job = JOB, slots: int = 1, serial: int = 0) -> Call:
    return call_for(class_of(job), slots, 7, serial, CONTEXT)


def test_members_of_an_array_share_one_class() -> None:
    specs = array_of([job_spec()] * 2, bytes(12), [0, 1])
    first, second = (Job(JobId(bytes(16)), spec, START_MS) for spec in specs)
    assert first.spec != second.spec
    assert class_of(first) is class_of(second), "it is computed once"
    assert class_of(replace(first, avoid=(PeerId("ben"),))) != class_of(first)
    dearer = replace(first.spec, terms=replace(first.spec.terms, rate_max=7))
    assert class_of(replace(first, spec=dearer)) != class_of(first)


def test_a_call_says_what_everybody_may_know() -> None:
    inputs = (FileRef("a", BlobRef(bytes(32), 30)), FileRef("b", BlobRef(bytes(32), 12)))
    workload = replace(JOB.spec.workload, inputs=inputs, image_bytes=100)
    call = call_of(replace(JOB, spec=replace(JOB.spec, workload=workload)), 3)
    assert (call.fetch_bytes, call.input_bytes) == (142, 42)
    assert call.addresses == ("/a", "/b", "/c")
    assert (call.profile, call.usage_ms_max) == (VICKREY, workload.timeout_ms)
    assert (call.slots, call.reuse_ms, call.issued_ms) == (3, REUSE_MS, START_MS)
    assert b"true" not in encode(call), "the command is for the winner alone"
    assert b"true" not in class_of(JOB).key


def test_a_quick_call_has_one_window_and_no_shift() -> None:
    call = call_of(replace(JOB, spec=job_spec(profile=QUICK)))
    assert (call.reveal_ms, call.shift_cap) == (0, 0)


def test_each_call_is_an_auction_of_its_own() -> None:
    assert len({call_of(serial=number).nonce for number in range(3)}) == 3


def test_jobs_that_differ_in_what_only_the_winner_sees_are_of_one_class() -> None:
    env = (EnvVar("MUTIRAO_ARRAY_INDEX", "7"),)
    other = replace(JOB.spec, workload=replace(JOB.spec.workload, env=env, command=("false",)))
    assert class_of(replace(JOB, spec=other)) == class_of(JOB)
    assert class_of(replace(JOB, spec=job_spec(queue_ms=0, priority=3))) == class_of(JOB)
    assert class_of(replace(JOB, spec=job_spec(rate_max=1))) != class_of(JOB)
    selective = replace(JOB, spec=job_spec(where="cpus>1"))
    assert class_of(selective) != class_of(JOB)
    assert class_of(selective).block_key[0].where == call_of(selective).where == "cpus>1"
    retried = class_of(replace(JOB, avoid=(BEN,)))
    assert retried != class_of(JOB)
    assert retried.key == class_of(JOB).key, "it may use the same slots, but not all of them"
    assert retried.block_key != class_of(JOB).block_key


def test_an_address_that_is_too_long_is_not_told() -> None:
    long = f"/dns4/{'a' * 128}/tcp/1"
    context = replace(CONTEXT, policy=Policy(addresses=(long, "/a")))
    assert call_for(class_of(JOB), 1, 7, 0, context).addresses == ("/a",)
