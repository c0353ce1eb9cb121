"""The amount due for a usage, in integers, rounded down in the payer's favour.

Spec: specs/lease.md#metering.
"""

from protocol.values.limits import (
    EXPOSURE_MORE_MS_MAX,
    EXPOSURE_MS,
    HOLD_BACK_MORE_MS_MAX,
    HOLD_BACK_MS,
)
from protocol.values.units import MONEY_MAX

MILLIS_PER_SECOND = 1000


def amount_of(rate: int, usage_ms: int) -> int:
    """Return nano-credits for a usage in milliseconds at a rate in nano-credits per second."""
    assert rate >= 0
    assert usage_ms >= 0
    return min(rate * usage_ms // MILLIS_PER_SECOND, MONEY_MAX)


def usage_seen_max(observed_ms: int) -> int:
    """Return the most usage that a provider may claim for the time that the requester measured.

    0.1 % is tolerance for clock drift. The time is 0 if the requester's clock was set back before
    a restart.
    """
    observed_ms = max(0, observed_ms)
    return observed_ms + observed_ms // 1000 + 1


def exposure_of(paid_ms: int) -> int:
    """Return how much usage a provider serves beyond what vouchers cover.

    It grows with what is paid: a requester that stops paying has paid most of its job.
    """
    return EXPOSURE_MS + min(paid_ms // 16, EXPOSURE_MORE_MS_MAX)


def payable(usage_ms: int) -> int:
    """Return the usage that a requester pays while the job runs; the rest is due at its end.

    It holds back less than the provider's exposure, so that an honest provider does not pause.
    """
    return max(0, usage_ms - HOLD_BACK_MS - min(usage_ms // 20, HOLD_BACK_MORE_MS_MAX))
