"""What becomes of a job between its attempts: when another auction is worth it, and when not.

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


def auction_for(job: Job, expected: tuple[PeerId, ...], context: Context) -> Auction:
    """Return the auction for the next attempt of a job, with its signed call.

    `expected` are the bidders to wait for.
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
    """Return the job as it goes on after a failed attempt: ended, or with one more attempt.

    `provider` is who failed; empty if the attempt came to no lease.
    """
    if reason not in WORTH_RETRYING or job.attempt >= job.spec.terms.retries:
        cancelled = reason is Failure.CANCELLED
        return replace(job, ending=Ending.CANCELLED if cancelled else Ending.FAILED)
    is_ours = reason is Failure.UNPAID  # We were away: the provider did what it had to.
    avoid = (*job.avoid, provider) if provider and not is_ours else job.avoid
    return replace(job, attempt=job.attempt + 1, avoid=avoid)
