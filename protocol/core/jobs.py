"""Jobs between attempts: whether another auction is worthwhile.

Spec: specs/core.md#jobs.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from protocol.core.presence import addresses_of
from protocol.machines.context import Context
from protocol.machines.requester.auction import Auction
from protocol.values.ids import CallId, JobId, PeerId
from protocol.values.limits import COMMIT_MS, HOLD_MS, REVEAL_MS, SHIFT_CAP
from protocol.values.reasons import Failure
from protocol.wire.job import QUICK, JobSpec
from protocol.wire.messages import Call

WORTH_RETRYING: Final = frozenset({
    Failure.EXHAUSTED,
    Failure.PREPARE_FAILED,
    Failure.SANDBOX_FAILED,
    Failure.PROVIDER_LOST,
    Failure.PROVIDER_STOPPED,
    Failure.UNPAID,
    Failure.OUTPUTS_LOST,
})  # fmt: skip
"""Failures of one provider, or of this node's absence: another attempt may succeed."""


class Ending(StrEnum):
    """Whether and how a job has ended."""

    OPEN = "open"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Job:
    """One job of the user, from submission to its end."""

    job_id: JobId
    spec: JobSpec
    submitted_ms: int
    attempt: int = 0
    avoid: tuple[PeerId, ...] = ()
    """Providers that have failed this job."""
    ending: Ending = Ending.OPEN


@dataclass(frozen=True, slots=True)
class Uncalled:
    """An open job that waits for the first provider. At the deadline it calls anyway."""

    deadline_ms: int


def auction_for(job: Job, expected: tuple[PeerId, ...], context: Context) -> Auction:
    """Return the auction for the next attempt of a job, with its signed call.

    `expected` names the bidders that the windows wait for.
    """
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
    call_id = CallId(signed.content_id)
    return Auction(job.job_id, job.spec, call_id, call, signed.envelope, expected, job.avoid)


def after_failure(job: Job, reason: Failure, provider: PeerId) -> Job:
    """Return the job after a failed attempt: ended, or with the next attempt.

    `provider` is the provider that failed; empty if there was no lease.
    """
    if reason not in WORTH_RETRYING or job.attempt >= job.spec.terms.retries:
        cancelled = reason is Failure.CANCELLED
        return replace(job, ending=Ending.CANCELLED if cancelled else Ending.FAILED)
    is_ours = reason is Failure.UNPAID  # This node was away: the provider did its part.
    avoid = (*job.avoid, provider) if provider and not is_ours else job.avoid
    return replace(job, attempt=job.attempt + 1, avoid=avoid)
