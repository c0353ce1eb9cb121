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
    may_bid,
)
from protocol.machines.context import Context, Policy
from protocol.rules.standing import Standing
from protocol.values.ids import JobId, PeerId
from protocol.values.limits import BIDS_MAX
from protocol.values.reasons import Failure
from protocol.wire.job import QUICK, VICKREY, BlobRef, FileRef
from protocol.wire.messages import CapabilityRecord, Listing
from tests.driven import POLICY, START_MS
from tests.simulated_network import job_spec
from tests.strategies import SIGNERS

CONTEXT = Context(START_MS, SIGNERS[0], Policy(addresses=("/a", "/b", "/c", "/d")))
JOB = Job(JobId(bytes(16)), job_spec(retries=2), START_MS)
ANSWERED = replace(CONTEXT, standing_of=lambda peer: Standing(answers=True))
BEN, CLEO = SIGNERS[1].peer_id, SIGNERS[2].peer_id


def listing(peer: str, cpus: int = 4) -> Listing:
    record = CapabilityRecord(1, 0, 1, (), True, "", cpus, 4_096, 50_000, (), ("embedded",))
    return Listing(peer, record, START_MS + 1)


def test_what_is_worth_it_is_tried_again_without_the_one_that_failed() -> None:
    second = after_failure(JOB, Failure.PROVIDER_LOST, BEN)
    assert (second.attempt, second.avoid, second.ending) == (1, (BEN,), Ending.OPEN)
    third = after_failure(second, Failure.EXHAUSTED, PeerId(""))
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
    auction = call_for(replace(JOB, avoid=(BEN,)), known, ANSWERED)
    assert (auction.nodes, auction.eligible) == (2, 1)
    assert auction.why == "1 of 2 known nodes can serve this job: 1 failed it before"
    assert (auction.expected, auction.avoid) == ((CLEO,), (BEN,))
    small = call_for(JOB, (listing(BEN, cpus=0), listing(CLEO)), CONTEXT)
    assert (small.nodes, small.eligible) == (2, 1)
    assert small.why.startswith("1 of 2 known nodes can serve this job: 1 has too few CPUs")


def test_only_who_answered_before_is_waited_for_and_only_if_they_are_few() -> None:
    known = tuple(map(listing, (BEN, CLEO)))
    assert call_for(JOB, known, CONTEXT).expected == ()
    one = replace(CONTEXT, standing_of=lambda peer: Standing(answers=peer == CLEO))
    assert call_for(JOB, known, one).expected == (CLEO,)
    assert call_for(JOB, (listing(BEN), listing(CLEO, cpus=0)), one).expected == ()
    for count in (BIDS_MAX, BIDS_MAX + 1):
        many = tuple(listing(f"peer{number}") for number in range(count))
        assert len(call_for(JOB, many, ANSWERED).expected) == (count if count == BIDS_MAX else 0)


def test_who_is_alone_hears_that_it_does_not_serve_itself() -> None:
    lending = replace(CONTEXT, policy=POLICY)
    own = listing(SIGNERS[0].peer_id)
    alone = call_for(JOB, (own,), lending)
    assert (alone.nodes, alone.eligible) == (0, 0)
    assert alone.why.endswith("; this node lends resources, but does not run its own jobs")
    retried = replace(JOB, avoid=(BEN,))
    left = call_for(retried, (own, listing(BEN)), lending)
    assert left.why == "0 of 1 known nodes can serve this job: 1 failed it before"
    gone = call_for(retried, (own,), lending)
    assert gone.why == "no other node is known now", "there was one, and that is the reason"
    assert "its own jobs" not in call_for(JOB, (own, listing(BEN)), lending).why
    assert "its own jobs" not in call_for(JOB, (own,), CONTEXT).why


def test_who_is_worth_a_call() -> None:
    lends = listing(BEN).record
    assert may_bid(JOB, BEN, lends, CONTEXT)
    assert may_bid(JOB, BEN, listing(BEN, cpus=0).record, CONTEXT), "others may come and fit"
    assert not may_bid(JOB, BEN, replace(lends, providing=False), CONTEXT)
    assert not may_bid(JOB, SIGNERS[0].peer_id, lends, CONTEXT)
    assert not may_bid(replace(JOB, avoid=(BEN,)), BEN, lends, CONTEXT)


def test_an_address_that_is_too_long_is_not_told() -> None:
    long = f"/dns4/{'a' * 128}/tcp/1"
    context = replace(CONTEXT, policy=Policy(addresses=(long, "/a")))
    assert call_for(JOB, (), context).call.addresses == ("/a",)


def test_no_bids_are_told_apart() -> None:
    nobody = call_for(JOB, (), CONTEXT)
    unfit = call_for(JOB, (listing(BEN, cpus=0),), CONTEXT)
    fit = call_for(JOB, (listing(BEN),), CONTEXT)
    failed = call_for(replace(JOB, avoid=(BEN,)), (listing(BEN),), CONTEXT)
    told = [failure_of(auction, Failure.NO_BIDS) for auction in (nobody, unfit, failed, fit)]
    assert told == [Failure.NO_PEERS, Failure.NO_MATCH, Failure.NO_MATCH, Failure.NO_BIDS]
    assert failure_of(nobody, Failure.CANCELLED) is Failure.CANCELLED
