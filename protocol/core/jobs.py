"""Jobs between attempts: whether another auction is worthwhile.

Spec: specs/core.md#jobs.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache
from typing import Final

from protocol.core.presence import addresses_of
from protocol.machines.context import Context, nobody_known
from protocol.machines.effects import Effect, Report
from protocol.machines.events import Done, Failed
from protocol.rules.matching import Demand, demand_of_call
from protocol.rules.standing import Standing, has_served
from protocol.values.egress import class_of as egress_class_of
from protocol.values.ids import Digest, JobId, PeerId
from protocol.values.limits import (
    COMMIT_MS,
    HOLD_MS,
    REUSE_MS,
    REVEAL_MS,
    SHIFT_CAP,
    STRANGERS_BELIEVED,
)
from protocol.values.reasons import Failure
from protocol.values.units import RATE_MAX
from protocol.wire.codec import encode
from protocol.wire.job import QUICK, BlobRef, JobSpec, LayerRef, Resources, Terms, Workload
from protocol.wire.messages import Call

WORTH_RETRYING: Final = frozenset({
    Failure.EXHAUSTED,
    Failure.TOO_FAR,
    Failure.PREPARE_FAILED,
    Failure.SANDBOX_FAILED,
    Failure.GPU_LOST,
    Failure.PROVIDER_LOST,
    Failure.PROVIDER_STOPPED,
    Failure.UNPAID,
    Failure.NOT_STARTED,
    Failure.OVERRUN,
    Failure.EXPIRED,
    Failure.CONTRACT,
    Failure.OUTPUTS_LOST,
    Failure.EXITED,
})  # fmt: skip
"""Failures of one provider, or of this node's absence: another attempt may succeed."""
SUSPECT: Final = frozenset({Failure.PREPARE_FAILED, Failure.SANDBOX_FAILED})
"""Failures that a job may cause by itself, or a node that lies. They cost nothing."""
CLASSES_KEPT_MAX: Final = 256
"""So many classes stay in memory: the jobs of an array need theirs again and again."""
JOBS_FAULT: Final = "; another node failed in the same way: the job itself is at fault"


class Ending(StrEnum):
    """Whether and how a job has ended."""

    OPEN = "open"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class JobFailure:
    """How one attempt failed. `provider` is empty if there was no lease."""

    reason: Failure
    provider: PeerId
    exit_class: str = ""
    """How the job ended, if it ended by itself."""


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """The newest checkpoint of a job that is here: its next attempt continues from it."""

    number: int
    """How many checkpoints the job has had."""
    listing: BlobRef
    size: int


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
    queued_ms: int = 0
    """When this attempt began to wait for a slot; 0 for the first one: at the submission."""
    failures: tuple[JobFailure, ...] = ()
    """Those of the attempts before this one. Older snapshots lack them."""
    resume: ResumePoint | None = None
    """None before its first checkpoint. Older snapshots lack it."""
    held: bool = False
    """Whether it waits until another job of its array has ended."""

    @property
    def waiting_since_ms(self) -> int:
        """When this attempt began to wait for a slot."""
        return self.queued_ms or self.submitted_ms

    @property
    def is_doubted(self) -> bool:
        """Whether a node could not prepare or start it: the node or the job itself is at fault."""
        return any(one.reason in SUSPECT for one in self.failures)

    @property
    def exits_seen(self) -> tuple[str, ...]:
        """How the job ended by itself on other nodes."""
        return tuple(one.exit_class for one in self.failures if one.exit_class)


def workload_of(job: Job) -> Workload:
    """Return what the next attempt at a job runs: it continues from the newest checkpoint."""
    resume = (job.resume.listing,) if job.resume else ()
    return replace(job.spec.workload, resume=resume)


BlockKey = tuple[Demand, tuple[PeerId, ...]]
"""What the lack of capacity holds for: a demand, and the providers that are to be avoided."""


@dataclass(frozen=True, slots=True)
class JobClass:
    """Jobs whose calls differ only in nonce, time and addresses: they share auctions and slots."""

    key: bytes
    """The encoded call, without what differs. Classes of a first and a later attempt may share it.
    """
    avoid: tuple[PeerId, ...]
    call: Call = field(compare=False)
    """The call, without what differs. Its highest rate is 0 if the jobs name none: then each call
    takes one from the list prices."""
    is_doubted: bool = False
    """Whether a node could not prepare or start its jobs: they go to nodes that have served us."""

    @property
    def nodes(self) -> int:
        """How many slots one of its jobs needs at the same time."""
        return self.call.slots if self.call.gang else 1

    @property
    def block_key(self) -> BlockKey:
        return demand_of_call(self.call), self.avoid


def class_of(job: Job) -> JobClass:
    """Return the class of a job."""
    workload = job.spec.workload
    needs = _Needs(
        workload.resources, workload.timeout_ms, workload.image, workload.image_bytes,
        workload.layers, sum(file.blob.size for file in workload.inputs),
        egress_class_of(workload.egress),
    )  # fmt: skip
    found = _class_of(needs, job.spec.terms, job.avoid)
    return replace(found, is_doubted=True) if job.is_doubted else found


@dataclass(frozen=True, slots=True)
class _Needs:
    """What of a workload everybody may know."""

    resources: Resources
    timeout_ms: int
    image: Digest
    image_bytes: int
    layers: tuple[LayerRef, ...]
    input_bytes: int
    egress: bytes


@lru_cache(maxsize=CLASSES_KEPT_MAX)
def _class_of(needs: _Needs, terms: Terms, avoid: tuple[PeerId, ...]) -> JobClass:
    quick = terms.profile == QUICK
    call = Call(
        nonce=bytes(16),
        profile=terms.profile,
        issued_ms=0,
        resources=needs.resources,
        rate_max=terms.rate_max,
        usage_ms_max=needs.timeout_ms,
        commit_ms=COMMIT_MS,
        reveal_ms=0 if quick else REVEAL_MS,
        hold_ms=HOLD_MS,
        shift_cap=0 if quick else SHIFT_CAP,
        image=needs.image,
        fetch_bytes=needs.image_bytes + needs.input_bytes,
        region=terms.region,
        drivers=terms.drivers,
        hard_limits=terms.hard_limits,
        reuse_ms=REUSE_MS,
        where=terms.where,
        slots=terms.nodes,
        gang=terms.nodes > 1,
        spread=terms.spread_regions,
        max_round_trip_us=terms.max_round_trip_us,
        input_bytes=needs.input_bytes,
        start_percent=terms.start_percent,
        egress=needs.egress,
        layers=needs.layers,
    )
    if terms.rate_max:
        return JobClass(encode(call), avoid, call)
    key = encode(replace(call, rate_max=RATE_MAX)) + terms.cap_percent.to_bytes(2)
    return JobClass(key, avoid, call)


def call_for(job_class: JobClass, slots: int, rate_max: int, serial: int, context: Context) -> Call:
    """Return a call for a class of jobs. `serial` is the number of earlier calls of this node."""
    seed = context.now_ms.to_bytes(8) + serial.to_bytes(8)
    return replace(
        job_class.call,
        nonce=context.signer.secret(b"call", seed)[:16],
        issued_ms=context.now_ms,
        addresses=addresses_of(context)[:3],
        slots=job_class.call.slots if job_class.call.gang else slots,
        rate_max=rate_max,
    )


def after_failure(
    job: Job,
    failed: Failed,
    exit_class: str = "",
    standing_of: Callable[[PeerId], Standing] = nobody_known,
    strangers: int = STRANGERS_BELIEVED,
) -> tuple[Job, Failed]:
    """Return the job after a failed attempt: ended, or with the next attempt; and what to report.

    `exit_class` says how the job ended, if it ended by itself. If providers say that it cannot
    start, their standing decides whether we believe it; so many strangers are believed.
    """
    reason, provider = failed.reason, failed.provider
    if reason is Failure.SLOT_BUSY:  # Nothing failed: it waits for another slot.
        return replace(job, attempt=job.attempt + 1), failed
    # A job that ended by itself has a budget of its own, to which its lease keeps, and so has one
    # that nobody started: nodes that lie about it could use up all the others.
    apart = SUSPECT | {Failure.EXITED}
    of_nodes = sum(one.reason not in apart for one in job.failures)
    spent = reason not in apart and of_nodes >= job.spec.terms.retries
    # Only a job that does not wait asks again at once: the others have waited for all their time.
    spent |= reason in {Failure.EXHAUSTED, Failure.TOO_FAR} and job.spec.terms.queue_ms > 0
    same = {one.provider for one in job.failures if one.reason is reason} | {provider}
    is_known = any(has_served(standing_of(peer)) for peer in same)
    is_jobs_fault = reason in SUSPECT and len(same) >= (2 if is_known else strangers)
    if is_jobs_fault:
        failed = replace(failed, why=failed.why + JOBS_FAULT)
    if reason not in WORTH_RETRYING or spent or is_jobs_fault:
        cancelled = reason is Failure.CANCELLED
        return replace(job, ending=Ending.CANCELLED if cancelled else Ending.FAILED), failed
    # This node was away, or another member of the gang was slow: the provider did its part.
    is_ours = reason is Failure.UNPAID or (reason is Failure.EXPIRED and job.spec.gang)
    avoid = (*job.avoid, provider) if provider and not is_ours else job.avoid
    failures = (*job.failures, JobFailure(reason, provider, exit_class))
    return replace(job, attempt=job.attempt + 1, avoid=avoid, failures=failures), failed


def nodes_at_fault(job: Job, effects: Iterable[Effect]) -> list[PeerId]:
    """Return the providers that failed a job which another node has now done without an error."""
    told = [effect.event for effect in effects if isinstance(effect, Report)]
    if not any(isinstance(event, Done) and not event.exit_code for event in told):
        return []
    blamed = SUSPECT | {Failure.EXITED}
    return [one.provider for one in job.failures if one.reason in blamed]
