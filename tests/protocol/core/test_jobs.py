"""Jobs between their attempts.

Spec: specs/core.md#jobs.
"""

from dataclasses import replace

import pytest

from protocol.core.jobs import (
    WORTH_RETRYING,
    Ending,
    Job,
    after_failure,
    call_for,
    failure_of,
)
from protocol.machines.context import Context, Policy
from protocol.values.ids import JobId
from protocol.values.reasons import Failure
from protocol.wire.job import QUICK, VICKREY, BlobRef, FileRef
from protocol.wire.messages import CapabilityRecord, Listing
from tests.driven import START_MS
from tests.strategies import SIGNERS
from tests.world import job_spec

CONTEXT = Context(START_MS, SIGNERS[0], Policy(addresses=("/a", "/b", "/c", "/d")))
JOB = Job(JobId(bytes(16)), job_spec(retries=2), START_MS)
BEN, CLEO = SIGNERS[1].peer_id, SIGNERS[2].peer_id


def listing(peer: str, cpus: int = 4) -> Listing:
    record = CapabilityRecord(1, 0, 1, (), True, "", cpus, 4_096, 50_000, (), ("embedded",))
    return Listing(peer, record, START_MS + 1)


def test_what_is_worth_it_is_tried_again_without_the_one_that_failed() -> None:
    second = after_failure(JOB, Failure.PROVIDER_LOST, BEN)
    assert (second.attempt, second.avoid, second.ending) == (1, (BEN,), Ending.OPEN)
    third = after_failure(second, Failure.EXHAUSTED, None)
    assert (third.attempt, third.avoid, third.ending) == (2, (BEN,), Ending.OPEN)
    assert after_failure(third, Failure.PROVIDER_LOST, CLEO).ending is Ending.FAILED


@pytest.mark.parametrize("reason", sorted(set(Failure) - WORTH_RETRYING))
def test_what_is_not_worth_it_ends_the_job(reason: Failure) -> None:
    expected = Ending.CANCELLED if reason is Failure.CANCELLED else Ending.FAILED
    assert after_failure(JOB, reason, BEN) == replace(JOB, ending=expected)


def test_a_call_says_what_everybody_may_know() -> None:
    inputs = (FileRef("a", BlobRef(bytes(32), 30)), FileRef("b", BlobRef(bytes(32), 12)))
    workload = replace(JOB.spec.workload, inputs=inputs, image_bytes=100)
    called = call_for(replace(JOB, spec=replace(JOB.spec, workload=workload)), (), CONTEXT)
    call = called.call
    assert call.fetch_bytes == 142
    assert call.addresses == ("/a", "/b", "/c")
    assert (call.profile, call.usage_ms_max) == (VICKREY, workload.timeout_ms)
    assert JOB.job_id not in called.envelope
    assert b"true" not in called.envelope, "the command is for the winner alone"


def test_a_quick_call_has_one_window_and_no_shift() -> None:
    quick = replace(JOB, spec=job_spec(profile=QUICK))
    call = call_for(quick, (), CONTEXT).call
    assert (call.reveal_ms, call.shift_cap) == (0, 0)


def test_each_attempt_is_an_auction_of_its_own() -> None:
    calls = {call_for(replace(JOB, attempt=number), (), CONTEXT).call_id for number in range(3)}
    assert len(calls) == 3


def test_eligible_are_others_that_have_not_failed_us() -> None:
    known = tuple(map(listing, (SIGNERS[0].peer_id, BEN, CLEO)))
    auction = call_for(replace(JOB, avoid=(BEN,)), known, CONTEXT)
    assert (auction.nodes, auction.eligible) == (1, 1)
    small = call_for(JOB, (listing(BEN, cpus=0), listing(CLEO)), CONTEXT)
    assert (small.nodes, small.eligible) == (2, 1)
    assert small.why.startswith("1 of 2 known nodes can serve this job: 1 have too few CPUs")


def test_no_bids_are_told_apart() -> None:
    nobody = call_for(JOB, (), CONTEXT)
    unfit = call_for(JOB, (listing(BEN, cpus=0),), CONTEXT)
    fit = call_for(JOB, (listing(BEN),), CONTEXT)
    told = [failure_of(auction, Failure.NO_BIDS) for auction in (nobody, unfit, fit)]
    assert told == [Failure.NO_PEERS, Failure.NO_MATCH, Failure.NO_BIDS]
    assert failure_of(nobody, Failure.CANCELLED) is Failure.CANCELLED
