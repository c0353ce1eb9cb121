"""What becomes of a job between its attempts: when another auction is worth it, and when not.

Spec: specs/core.md#jobs.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from protocol.core.presence import addresses_of
from protocol.machines.context import Context
from protocol.machines.requester.auction import Auction
from protocol.rules.matching import (
    demand_of_job,
    explain,
    mismatches,
)
from protocol.values.ids import CallId, JobId, PeerId
from protocol.values.limits import BIDS_MAX, COMMIT_MS, HOLD_MS, REVEAL_MS, SHIFT_CAP
from protocol.values.reasons import Failure
from protocol.wire.job import QUICK, JobSpec
from protocol.wire.messages import Call, CapabilityRecord, Listing

WORTH_RETRYING: Final = frozenset({
    Failure.EXHAUSTED,
    Failure.PREPARE_FAILED,
    Failure.SANDBOX_FAILED,
    Failure.PROVIDER_LOST,
    Failure.PROVIDER_STOPPED,
    Failure.UNPAID,
    Failure.OUTPUTS_LOST,
})  # fmt: skip
"""What is the fault of one provider, so that another may do better, or of our own absence."""


class Ending(StrEnum):
    """Whether a job has ended, and how."""

    OPEN = "open"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Job:
    """One job of our user, from submission until it has ended."""

    job_id: JobId
    spec: JobSpec
    submitted_ms: int
    attempt: int = 0
    avoid: tuple[PeerId, ...] = ()
    """Providers that have failed this job."""
    ending: Ending = Ending.OPEN


@dataclass(frozen=True, slots=True)
class Uncalled:
    """An open job that waits for a provider to appear; at the deadline it calls all the same."""

    deadline_ms: int


def may_bid(job: Job, peer: PeerId, record: CapabilityRecord, context: Context) -> bool:
    """Say whether a node is one to call: another that lends, and has not failed this job."""
    unwelcome = {context.signer.peer_id, *job.avoid}
    return record.providing and peer not in unwelcome


def call_for(job: Job, listings: tuple[Listing, ...], context: Context) -> Auction:
    """Return the auction for the next attempt of a job, with its signed call."""
    workload, terms = job.spec.workload, job.spec.terms
    quick = terms.profile == QUICK
    call = Call(
        nonce=context.signer.secret(b"call", job.job_id + job.attempt.to_bytes(2))[:16],
        profile=terms.profile,
        issued_ms=context.now_ms,
        resources=workload.resources,
        rate_max=terms.rate_max,
        usage_ms_max=workload.timeout_ms,
        commit_ms=COMMIT_MS,
        reveal_ms=0 if quick else REVEAL_MS,
        hold_ms=HOLD_MS,
        shift_cap=0 if quick else SHIFT_CAP,
        image=workload.image,
        fetch_bytes=workload.image_bytes + sum(file.blob.size for file in workload.inputs),
        region=terms.region,
        drivers=terms.drivers,
        hard_limits=terms.hard_limits,
        attempt=job.attempt,
        addresses=addresses_of(context)[:3],
    )
    signed = context.signer.sign(call)
    known = [item for item in listings if item.peer != context.signer.peer_id]
    others = [item for item in known if item.peer not in job.avoid]
    demand = demand_of_job(job.spec)
    explanation = explain(demand, [item.record for item in others], len(known) - len(others))
    why = explanation.why
    if not (explanation.nodes or job.avoid) and context.policy.providing:
        why += "; this node lends resources, but does not run its own jobs"
    # A record costs nothing, and its node may not exist: only who answered before is waited for.
    heard = tuple(item for item in listings if context.standing_of(item.peer).answers)
    awaited = able_to_bid(job.spec, job.avoid, heard, context)
    expected = awaited if len(awaited) <= BIDS_MAX else ()
    return Auction(
        job.job_id, job.spec, CallId(signed.content_id), call, signed.envelope,
        explanation.nodes, explanation.eligible, why, expected, job.avoid,
    )  # fmt: skip


def able_to_bid(
    spec: JobSpec, avoid: tuple[PeerId, ...], listings: tuple[Listing, ...], context: Context
) -> tuple[PeerId, ...]:
    """Return the other nodes that can serve a job, without those to avoid."""
    unwelcome = {context.signer.peer_id, *avoid}
    demand = demand_of_job(spec)
    others = [item for item in listings if item.peer not in unwelcome]
    return tuple(item.peer for item in others if not mismatches(demand, item.record))


def after_failure(job: Job, reason: Failure, provider: PeerId) -> Job:
    """Return the job as it goes on after a failed attempt: ended, or with one more attempt.

    `provider` is who failed; empty if the attempt came to no lease.
    """
    if reason not in WORTH_RETRYING or job.attempt >= job.spec.terms.retries:
        cancelled = reason is Failure.CANCELLED
        return replace(job, ending=Ending.CANCELLED if cancelled else Ending.FAILED)
    is_ours = reason is Failure.UNPAID  # We were away: the provider did what it had to.
    avoid = (*job.avoid, provider) if provider and not is_ours else job.avoid
    return replace(job, attempt=job.attempt + 1, avoid=avoid)


def failure_of(auction: Auction, reason: Failure) -> Failure:
    """Return the reason as the user should hear it: nobody there, nobody fit, or no bids."""
    if reason is not Failure.NO_BIDS or auction.eligible:
        return reason
    return Failure.NO_MATCH if auction.nodes else Failure.NO_PEERS
