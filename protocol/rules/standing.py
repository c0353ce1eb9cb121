"""What a peer's earlier conduct is worth: whom a requester serves first, and whom last.

Spec: specs/standing.md. All of it is one node's own experience; nobody is asked, and nobody
is told.
"""

from dataclasses import dataclass, replace
from typing import Final

from protocol.values.limits import STRIKE_HALF_LIFE_MS

DECLINED: Final = 300
"""Thousandths of a strike for a bidder that declines its award: it may honestly be busy."""
BROKEN: Final = 1_000
"""... for one that falls silent, gives a lease back unstarted, or does not open its bid."""
STRUCK: Final = 500
"""A peer with more than this has a bad standing."""
STRIKES_MAX: Final = 8_000
"""Nobody has more: after four half-lives everything is forgiven."""

FIRST, MIDDLE, LAST = range(3)


@dataclass(frozen=True, slots=True)
class Standing:
    """What we know of a peer."""

    settled: bool = False
    """Whether both of us have signed a receipt."""
    strikes: int = 0
    """In thousandths, as they were at `struck_ms`."""
    struck_ms: int = 0


STRANGER: Final = Standing()


def strikes_of(standing: Standing, now_ms: int) -> int:
    """Return what is left of a peer's strikes, in thousandths: half after each half-life."""
    halved = max(0, now_ms - standing.struck_ms) // STRIKE_HALF_LIFE_MS
    return standing.strikes >> min(halved, 16)


def struck(standing: Standing, weight: int, now_ms: int) -> Standing:
    """Return the standing after one more fault."""
    strikes = min(strikes_of(standing, now_ms) + weight, STRIKES_MAX)
    return replace(standing, strikes=strikes, struck_ms=now_ms)


def place_of(standing: Standing, now_ms: int) -> int:
    """Return FIRST for who has served us well, LAST for who broke its word, MIDDLE for others."""
    if strikes_of(standing, now_ms) > STRUCK:
        return LAST
    return FIRST if standing.settled else MIDDLE
