"""Metering: integers, rounded in the payer's favour, the same on both sides.

Spec: specs/lease.md#metering.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.rules.metering import amount_of, usage_seen_max
from protocol.values.units import MONEY_MAX, RATE_MAX
from protocol.wire.job import TIMEOUT_MS_MAX

RATES, USAGES = st.integers(0, RATE_MAX), st.integers(0, TIMEOUT_MS_MAX)


@given(RATES, USAGES, USAGES)
def test_amounts_grow_with_usage(rate: int, one: int, other: int) -> None:
    low, high = sorted((one, other))
    assert amount_of(rate, low) <= amount_of(rate, high) <= MONEY_MAX


@given(RATES, USAGES)
def test_rounding_never_exceeds_the_exact_product(rate: int, usage_ms: int) -> None:
    assert 0 <= rate * usage_ms - 1000 * amount_of(rate, usage_ms) < 1000


@given(RATES, USAGES, USAGES)
def test_parts_cost_less_than_a_nano_credit_apart_from_the_whole(
    rate: int, one: int, other: int
) -> None:
    whole = amount_of(rate, one + other)
    assert 0 <= whole - amount_of(rate, one) - amount_of(rate, other) <= 1


def test_no_amount_is_beyond_what_a_disk_can_hold() -> None:
    assert amount_of(RATE_MAX, 10**15) == MONEY_MAX


def test_clocks_may_differ_by_a_thousandth() -> None:
    assert [usage_seen_max(observed) for observed in (0, 999, 1_000, 10_000)] == [
        1, 1_000, 1_002, 10_011,
    ]  # fmt: skip
    assert usage_seen_max(-100_000) == 1, "a clock that was set back saw nothing pass"


def test_negative_quantities_are_bugs() -> None:
    for rate, usage_ms in ((-1, 0), (0, -1)):
        with pytest.raises(AssertionError):
            amount_of(rate, usage_ms)
