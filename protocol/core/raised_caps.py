"""How far jobs that name no price have raised what they pay, since nobody bid for less.

Spec: specs/pricing.md#cap.
"""

from protocol.core.candidates import Candidates
from protocol.core.jobs import Job, JobClass
from protocol.machines.context import Context
from protocol.machines.requester.auction import Lost
from protocol.rules.pricing import Cap
from protocol.values.bounded import keep_newest
from protocol.values.reasons import Failure, Refusal

RAISES_MAX = 3
"""A job that names no price raises its cap at most this often in a row: once for each step."""
RAISED_KEPT_MAX = 256
"""So many classes keep a raised price until their next call: of some no job waits any more."""


class RaisedCaps:
    """How often each class raised its cap, and the last cap that failed."""

    def __init__(self, candidates: Candidates) -> None:
        self._candidates = candidates
        self._raised: dict[JobClass, tuple[int, int]] = {}

    def cap(self, job: Job, job_class: JobClass, context: Context) -> Cap | None:
        """Return the cap of the next call for a job, above the one that failed last."""
        return self._above(self._raised.get(job_class, (0, 0))[1], job, context)

    def forget(self, job_class: JobClass) -> None:
        """Begin with the lowest cap again."""
        self._raised.pop(job_class, None)

    def raise_after(self, lost: Lost, job: Job, job_class: JobClass, context: Context) -> bool:
        """Raise the cap after an auction without a sale; return False if that would not help."""
        times, _ = self._raised.pop(job_class, (0, 0))
        if times >= RAISES_MAX or not self._may_raise(lost, job, context):
            return False
        self._raised[job_class] = times + 1, lost.auction.call.rate_max
        keep_newest(self._raised, RAISED_KEPT_MAX)
        return True

    def _may_raise(self, lost: Lost, job: Job, context: Context) -> bool:
        """Return whether nobody bid for its price, and the next call may pay more."""
        busy = bool(lost.refused) and all(item.reason == Refusal.BUSY for item in lost.refused)
        if busy or lost.reason not in {Failure.NO_BIDS, Failure.NO_MATCH}:
            return False
        return self._above(lost.auction.call.rate_max, job, context) is not None

    def _above(self, rate: int, job: Job, context: Context) -> Cap | None:
        return self._candidates.cap(job.spec, job.avoid, rate, context, is_doubted=job.is_doubted)
