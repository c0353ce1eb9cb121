"""Metering: integers, rounded in the payer's favour, the same on both sides.

Spec: specs/lease.md#metering.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.rules.metering import amount_of, exposure_of, payable, usage_seen_max
from protocol.values.limits import EXPOSURE_MS, HEARTBEAT_MS, HOLD_BACK_MS, VOUCHER_MS
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


@given(USAGES)
def test_what_is_held_back_is_a_twentieth_and_less_than_the_exposure(usage_ms: int) -> None:
    held_ms = usage_ms - payable(usage_ms)
    assert min(HOLD_BACK_MS, usage_ms) <= held_ms <= HOLD_BACK_MS + usage_ms // 20
    assert held_ms < exposure_of(payable(usage_ms))


@given(USAGES, USAGES)
def test_who_has_run_longer_is_paid_no_less(one: int, other: int) -> None:
    low, high = sorted((one, other))
    assert payable(low) <= payable(high)


@given(st.integers(0, 3), st.lists(st.booleans(), max_size=400))
def test_an_honest_provider_is_not_paused_and_one_that_stops_early_loses_the_rest(
    delay_s: int, lost: list[bool]
) -> None:
    """Heartbeats come late, but never two in a row are lost."""
    paid_ms = 0
    before = False
    for number, is_lost in enumerate(lost, 1):
        usage_ms = number * HEARTBEAT_MS
        assert usage_ms + delay_s * 1_000 - paid_ms <= exposure_of(paid_ms), "it would be paused"
        assert usage_ms - HEARTBEAT_MS - paid_ms >= min(HOLD_BACK_MS, usage_ms - HEARTBEAT_MS)
        if (not is_lost or before) and payable(usage_ms) >= paid_ms + VOUCHER_MS:
            paid_ms = payable(usage_ms)
        before = is_lost and not before


def test_a_container_that_was_paused_is_paid_on() -> None:
    """Its usage stands still at the budget: that must be worth a voucher."""
    for paid_ms in (0, *(10**n for n in range(1, 11)), TIMEOUT_MS_MAX):
        assert payable(paid_ms + exposure_of(paid_ms)) >= paid_ms + VOUCHER_MS


def test_a_provider_that_stops_at_99_percent_has_been_paid_less_than_95_5() -> None:
    for usage_ms in (100_000, 1_000_000, 9_000_000):
        assert payable(usage_ms * 99 // 100) < usage_ms * 955 // 1000
    assert exposure_of(0) == EXPOSURE_MS
