"""Quantities: money, time and memory are integers, each with one unit.

Spec: specs/parameters.md#units. One credit is 10^9 nano-credits. A rate is nano-credits per
second for the whole slot. People write and read credits per hour.
"""

from decimal import ROUND_FLOOR, Decimal, DecimalException
from functools import lru_cache
from typing import Final

NANO: Final = 10**9
SECONDS_PER_HOUR: Final = 3600
RATE_MAX: Final = 10**12
MONEY_MAX: Final = 2**63 - 1
PPM: Final = 10**6
"""One, in millionths."""
GIB: Final = 1024
"""MiB in a GiB."""
TIB: Final = 1024**2
"""MiB in a TiB."""

NOMINAL_GIB: Final = (
    4, 6, 8, 10, 11, 12, 16, 20, 24, 32, 40, 48, 64, 80, 94, 96, 128, 141, 180, 192, 256, 288,
)  # fmt: skip
"""The sizes of memory with which GPUs are sold, in GiB."""
NOMINAL_PERCENT: Final = 92
"""A driver reports at least this much of it: error correction and firmware take the rest."""


def rate_of_hourly(credits_per_hour: str | Decimal) -> int:
    """Return nano-credits per second from credits per hour, rounded down; ValueError if absurd."""
    try:
        rate = Decimal(credits_per_hour) * NANO / SECONDS_PER_HOUR
    except DecimalException:
        raise ValueError(f"not a price: {credits_per_hour!r}") from None
    if not rate.is_finite() or not 0 <= rate <= RATE_MAX:
        raise ValueError(f"a price is between 0 and 3,600,000 an hour: {credits_per_hour}")
    return int(rate.to_integral_value(ROUND_FLOOR))


def hourly_of_rate(rate: int) -> str:
    """Return credits per hour as people read it, with four decimals."""
    return f"{Decimal(rate) * SECONDS_PER_HOUR / NANO:.4f}"


def size_of_mib(mib: int) -> str:
    """Return a size as people read it, such as "512 MiB", "2 GiB" or "18.8 GiB"."""
    for unit, factor in (("TiB", TIB), ("GiB", GIB)):
        if mib >= factor:
            return f"{mib / factor:.1f}".removesuffix(".0") + f" {unit}"
    return f"{mib} MiB"


@lru_cache(1_024)
def nominal_vram(mib: int) -> int:
    """Return the size with which a GPU is sold: 80 GiB for one that reports 81,559 MiB."""
    nominal = next((gib * GIB for gib in NOMINAL_GIB if gib * GIB >= mib), mib)
    return nominal if mib * 100 >= nominal * NOMINAL_PERCENT else mib


def credits_of_nano(amount: int) -> str:
    """Return an amount of nano-credits in credits, with nine decimals: nothing is rounded."""
    return f"{Decimal(amount) / NANO:.9f}"
