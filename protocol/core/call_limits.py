"""How many calls a provider answers: of each requester, of all that settled, and of all strangers.

Spec: specs/auction.md#rate-limits.
"""

from protocol.machines.context import Context
from protocol.rules.bucket import Bucket, draw, full_bucket, refund
from protocol.values.bounded import keep_newest
from protocol.values.ids import PeerId
from protocol.values.limits import (
    ALL_CALLS_BURST,
    ALL_CALLS_PER_MINUTE,
    BIDDINGS_MAX,
    CALLS_BURST,
    CALLS_PER_MINUTE,
)


class CallLimits:
    """The buckets of the most recent callers, and those that many share."""

    def __init__(self) -> None:
        self._buckets: dict[PeerId, Bucket] = {}
        self._common: dict[bool, Bucket] = {}
        """One bucket for all settled requesters, one for all strangers."""

    def admit(self, requester: PeerId, context: Context) -> bool:
        """Count a call; return whether it may be answered."""
        now_ms = context.now_ms
        own = self._buckets.pop(requester, None)
        self._buckets[requester], allowed = draw(own or _fresh_bucket(context), now_ms)
        keep_newest(self._buckets, BIDDINGS_MAX)
        if not allowed:
            return False
        # Keys are free: all strangers share one bucket, and it is half of the total.
        settled = context.standing_of(requester).settled
        half = full_bucket(ALL_CALLS_BURST // 2, ALL_CALLS_PER_MINUTE // 2, now_ms)
        self._common[settled], allowed = draw(self._common.get(settled, half), now_ms)
        return allowed

    def refund(self, requester: PeerId, context: Context) -> None:
        """Count a call no longer: it led to an award."""
        own = self._buckets.get(requester, _fresh_bucket(context))
        self._buckets[requester] = refund(own)


def _fresh_bucket(context: Context) -> Bucket:
    return full_bucket(CALLS_BURST, CALLS_PER_MINUTE, context.now_ms)
