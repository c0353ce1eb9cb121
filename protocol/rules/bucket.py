"""A rate limit for requests of strangers: a token bucket.

Spec: specs/auction.md#rate-limits.
"""

from dataclasses import dataclass, replace
from typing import Final

MILLI: Final = 1000


@dataclass(frozen=True, slots=True)
class Bucket:
    """Tokens that refill with time, counted in thousandths to stay integers."""

    burst: int
    per_minute: int
    milli_tokens: int
    filled_ms: int


def full_bucket(burst: int, per_minute: int, now_ms: int) -> Bucket:
    """Return a full bucket."""
    return Bucket(burst, per_minute, burst * MILLI, now_ms)


def draw(bucket: Bucket, now_ms: int) -> tuple[Bucket, bool]:
    """Take one token; return the new bucket, and whether there was a token."""
    elapsed_ms = max(0, now_ms - bucket.filled_ms)
    tokens = min(bucket.burst * MILLI, bucket.milli_tokens + elapsed_ms * bucket.per_minute // 60)
    allowed = tokens >= MILLI
    left = tokens - MILLI if allowed else tokens
    return replace(bucket, milli_tokens=left, filled_ms=now_ms), allowed


def refund(bucket: Bucket) -> Bucket:
    """Give one token back, at most to the full bucket."""
    tokens = min(bucket.burst * MILLI, bucket.milli_tokens + MILLI)
    return replace(bucket, milli_tokens=tokens)
