"""The value of a peer's past conduct: which peers a node prefers, and which come last.

Spec: specs/standing.md. It is one node's own experience, which nodes do not share.
"""

from dataclasses import dataclass, replace
from typing import Final

from protocol.values.limits import SILENT_MS, STRIKE_HALF_LIFE_MS, UNPAID_HALF_LIFE_MS

DECLINED: Final = 300
"""Thousandths of a strike for a bidder that declines its award: it may honestly be busy."""
BROKEN: Final = 1_000
"""... for one that falls silent, does not open its bid, or fails a job that it took."""
STRUCK: Final = 500
"""A peer with more than this has a bad standing."""
STRIKES_MAX: Final = 8_000
"""The maximum: after four half-lives no peer has a bad standing."""

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
    """For how many ms it held our capacity without running a job, as of `unpaid_ms`."""
    unpaid_ms: int = 0
    answers: bool = False
    """Whether it answered a call before: then a requester waits for it."""
    silent_until_ms: int = 0
    """Until this time only a punctual answer sets `answers` again."""


STRANGER: Final = Standing()


def strikes_of(standing: Standing, now_ms: int) -> int:
    """Return a peer's current strikes, in thousandths: they halve after each half-life."""
    return _left_of(standing.strikes, now_ms - standing.struck_ms, STRIKE_HALF_LIFE_MS)


def struck(standing: Standing, weight: int, now_ms: int) -> Standing:
    """Return the standing after one more fault."""
    strikes = min(strikes_of(standing, now_ms) + weight, STRIKES_MAX)
    return replace(standing, strikes=strikes, struck_ms=now_ms)


def unpaid_of(standing: Standing, now_ms: int) -> int:
    """Return for how many ms a peer held our capacity in vain; it halves after each half-life."""
    return _left_of(standing.unpaid, now_ms - standing.unpaid_ms, UNPAID_HALF_LIFE_MS)


def kept_unpaid(standing: Standing, duration_ms: int, now_ms: int) -> Standing:
    """Return the standing after a lease that ended before its job ran."""
    unpaid = unpaid_of(standing, now_ms) + max(0, duration_ms)
    return replace(standing, unpaid=unpaid, unpaid_ms=now_ms)


def answered(standing: Standing, now_ms: int, *, in_time: bool) -> Standing:
    """Return the standing of a peer that has answered a call, in time or too late to count."""
    if not in_time and now_ms < standing.silent_until_ms:
        return standing
    return replace(standing, answers=True, silent_until_ms=0)


def unanswered(standing: Standing, now_ms: int) -> Standing:
    """Return the standing of a peer that was waited for in vain."""
    return replace(standing, answers=False, silent_until_ms=now_ms + SILENT_MS)


def place_of(standing: Standing, now_ms: int) -> int:
    """Return LAST for a bad standing, FIRST for a peer that has settled with us, else MIDDLE."""
    if strikes_of(standing, now_ms) > STRUCK:
        return LAST
    return FIRST if standing.settled else MIDDLE


def _left_of(amount: int, elapsed_ms: int, half_life_ms: int) -> int:
    halved = max(0, elapsed_ms) // half_life_ms
    return amount >> min(halved, amount.bit_length())
