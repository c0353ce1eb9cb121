"""The value of a peer's past conduct: which peers a node prefers, and which come last.

Spec: specs/standing.md. It is one node's own experience, which nodes do not share.
"""

from dataclasses import dataclass, replace
from math import isqrt
from typing import Final

from protocol.values.limits import (
    ABORT_MS,
    ABORTS_MAX,
    ABORTS_MS,
    BARRED_MS,
    CREDIT_MS_MAX,
    JOBS_HALF_LIFE_MS,
    SILENT_MS,
    STRIKE_HALF_LIFE_MS,
    UNPAID_HALF_LIFE_MS,
    WEIGHT_MAX,
)
from protocol.values.units import PPM

DECLINED: Final = 300
"""Thousandths of a strike for a bidder that declines its award: it may honestly be busy."""
BROKEN: Final = 1_000
"""... for one that falls silent, does not open its bid, or fails a job that it took."""
STRUCK: Final = 500
"""A peer with more than this has a bad standing."""
STRIKES_MAX: Final = 8_000
"""The maximum: after four half-lives no peer has a bad standing."""

JOB: Final = 1_000
"""Thousandths of one job, the unit of successes and failures."""
FAILURE: Final = 2 * JOB
"""A failure counts twice: what was paid for is lost, and so is the time."""
LATE: Final = JOB // 2
"""What a start later than promised counts for, beside the job itself."""
PRIOR_DONE: Final = 4 * JOB
PRIOR_FAILED: Final = 1 * JOB
"""What a stranger is taken for: four jobs done and one failed."""
JOBS_KEPT: Final = 20
"""Each job takes a 20th of the earlier ones out of the estimate: old successes buy no failures."""
DEVIATIONS_PERCENT: Final = 84
"""The 20 % quantile lies this far below the mean, in hundredths of a standard deviation."""
LOST_PPM: Final = PPM // 2
"""The share of a job's work that a failure loses on average, without checkpoints."""

CREDIT_DIVISOR: Final = 4
"""A requester may owe a quarter of what it has paid for."""

FIRST, MIDDLE, LAST = range(3)


@dataclass(frozen=True, slots=True)
class Standing:
    """What this node knows about a peer."""

    settled: bool = False
    """Whether both sides have signed a receipt."""
    strikes: int = 0
    """In thousandths, as they were at `struck_ms`."""
    struck_ms: int = 0
    unpaid: int = 0
    """How much usage and reserved time it left unpaid, in ms as of `unpaid_ms`."""
    unpaid_ms: int = 0
    paid: int = 0
    """How much usage it has paid for, in ms."""
    answers: bool = False
    """Whether it answered a call before: then a requester waits for it."""
    silent_until_ms: int = 0
    """Until this time only a punctual answer sets `answers` again."""
    done: int = 0
    """Our jobs that it ran to their end, in thousandths of a job, as of `jobs_ms`."""
    failed: int = 0
    """Our jobs that it took and did not run to their end, each counted as FAILURE."""
    jobs_ms: int = 0
    aborts: tuple[int, ...] = ()
    """When it ended auctions without an outcome that had read our bid; the newest ABORTS_MAX."""
    barred_until_ms: int = 0
    """Until when we refuse it, because we can prove a fraud of it."""


STRANGER: Final = Standing()


def strikes_of(standing: Standing, now_ms: int) -> int:
    """Return a peer's current strikes, in thousandths: they halve after each half-life."""
    return _left_of(standing.strikes, now_ms - standing.struck_ms, STRIKE_HALF_LIFE_MS)


def struck(standing: Standing, weight: int, now_ms: int) -> Standing:
    """Return the standing after one more fault."""
    strikes = min(strikes_of(standing, now_ms) + weight, STRIKES_MAX)
    return replace(standing, strikes=strikes, struck_ms=now_ms)


def unpaid_of(standing: Standing, now_ms: int) -> int:
    """Return how many ms a peer's ended leases left unpaid; it halves after each half-life."""
    return _left_of(standing.unpaid, now_ms - standing.unpaid_ms, UNPAID_HALF_LIFE_MS)


def kept_unpaid(standing: Standing, duration_ms: int, now_ms: int) -> Standing:
    """Return the standing after a lease that its requester did not pay for."""
    unpaid = unpaid_of(standing, now_ms) + max(0, duration_ms)
    return replace(standing, unpaid=unpaid, unpaid_ms=now_ms)


def settled(standing: Standing, usage_ms: int) -> Standing:
    """Return the standing after a receipt that both signed; the peer paid for `usage_ms`."""
    unpaid, paid = max(0, standing.unpaid - usage_ms), standing.paid + usage_ms
    return replace(standing, settled=True, answers=True, unpaid=unpaid, paid=paid)


def credit_of(standing: Standing) -> int:
    """Return how many ms of usage a requester may owe on its own account."""
    return min(standing.paid // CREDIT_DIVISOR, CREDIT_MS_MAX)


def answered(standing: Standing, now_ms: int, *, in_time: bool) -> Standing:
    """Return the standing of a peer that has answered a call, in time or too late to count."""
    if not in_time and now_ms < standing.silent_until_ms:
        return standing
    return replace(standing, answers=True, silent_until_ms=0)


def unanswered(standing: Standing, now_ms: int) -> Standing:
    """Return the standing of a peer that was waited for in vain."""
    return replace(standing, answers=False, silent_until_ms=now_ms + SILENT_MS)


def tried(standing: Standing, now_ms: int, *, succeeded: bool) -> Standing:
    """Return the standing after one more job of ours with this provider."""
    done, failed = (amount - amount // JOBS_KEPT for amount in _jobs_of(standing, now_ms))
    done, failed = (done + JOB, failed) if succeeded else (done, failed + FAILURE)
    return replace(standing, done=done, failed=failed, jobs_ms=now_ms)


def late(standing: Standing, now_ms: int) -> Standing:
    """Return the standing after a job of ours that the provider started later than promised."""
    done, failed = _jobs_of(standing, now_ms)
    return replace(standing, done=done, failed=failed + LATE, jobs_ms=now_ms)


def aborted(standing: Standing, now_ms: int) -> Standing:
    """Return the standing after an auction without an outcome.

    Aborts within ABORT_MS count once: a requester that crashes aborts all auctions that are open.
    """
    if is_suspect(standing, now_ms):
        return standing
    return replace(standing, aborts=(*standing.aborts, now_ms)[-ABORTS_MAX:])


def barred(standing: Standing, called_ms: int) -> Standing:
    """Return the standing of a peer whose fraud we can prove, in an auction of that time."""
    until_ms = max(standing.barred_until_ms, called_ms + BARRED_MS)
    return replace(standing, barred_until_ms=until_ms)


def is_suspect(standing: Standing, now_ms: int) -> bool:
    """Return whether a requester aborted an auction lately, and may use what it has read."""
    return bool(standing.aborts) and now_ms - standing.aborts[-1] < ABORT_MS


def is_refused(standing: Standing, now_ms: int) -> bool:
    """Return whether a requester gets no bids, for its conduct in earlier auctions."""
    often = len(standing.aborts) == ABORTS_MAX and now_ms - standing.aborts[0] < ABORTS_MS
    return often or now_ms < standing.barred_until_ms


def success_of(standing: Standing, now_ms: int) -> int:
    """Return how likely a job with this provider succeeds, cautiously estimated, in millionths.

    It is the 20 % quantile of a Beta distribution, by its mean and its standard deviation: few
    observations count for less than many.
    """
    done, failed = _jobs_of(standing, now_ms)
    done, failed = done + PRIOR_DONE, failed + PRIOR_FAILED
    total = done + failed
    deviation = isqrt(PPM**2 * JOB * done * failed // (total**2 * (total + JOB)))
    return PPM * done // total - deviation * DEVIATIONS_PERCENT // 100


def weight_of(standing: Standing, now_ms: int) -> int:
    """Return the factor by which a requester weighs a provider's ask, in millionths.

    It is the expected cost of a finished job over the ask: at least PPM, at most WEIGHT_MAX.
    """
    success = success_of(standing, now_ms)
    return min(PPM + LOST_PPM * (PPM - success) // success, WEIGHT_MAX)


def has_served(standing: Standing) -> bool:
    """Return whether a provider ran more of our jobs to their end than it failed."""
    return standing.done > standing.failed


def place_of(standing: Standing, now_ms: int) -> int:
    """Return LAST for a bad standing, FIRST for a peer that has settled with us, else MIDDLE."""
    if strikes_of(standing, now_ms) > STRUCK or now_ms < standing.barred_until_ms:
        return LAST
    return FIRST if standing.settled else MIDDLE


def _jobs_of(standing: Standing, now_ms: int) -> tuple[int, int]:
    elapsed_ms = now_ms - standing.jobs_ms
    return (
        _left_of(standing.done, elapsed_ms, JOBS_HALF_LIFE_MS),
        _left_of(standing.failed, elapsed_ms, JOBS_HALF_LIFE_MS),
    )


def _left_of(amount: int, elapsed_ms: int, half_life_ms: int) -> int:
    halved = max(0, elapsed_ms) // half_life_ms
    return amount >> min(halved, amount.bit_length())
