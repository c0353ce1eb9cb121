"""Money as people write it and as the protocol counts it.

Spec: specs/parameters.md#units.
"""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.values.units import (
    MONEY_MAX,
    NANO,
    RATE_MAX,
    credits_of_nano,
    hourly_of_rate,
    nominal_vram,
    rate_of_hourly,
    size_of_mib,
)


@pytest.mark.parametrize(
    "hourly, rate",
    [("0", 0), ("1", 277_777), ("2.00", 555_555), ("0.0000036", 1), ("3600000", RATE_MAX),
     (Decimal("3.6"), 1_000_000), ("0.0000035", 0), ("-0", 0), ("1e-999999999", 0)],
)  # fmt: skip
def test_prices_per_hour_become_rates_per_second(hourly: str, rate: int) -> None:
    assert rate_of_hourly(hourly) == rate


@pytest.mark.parametrize(
    "text", ["", "x", "-1", "NaN", "sNaN", "Infinity", "3600001", "1e999999", "1,5"]
)
def test_absurd_prices_are_value_errors(text: str) -> None:
    with pytest.raises(ValueError, match="price"):
        rate_of_hourly(text)


@given(st.one_of(st.text(max_size=30), st.decimals().map(str), st.from_regex(r"\d{1,9}e-?\d{1,9}")))
def test_any_text_is_a_rate_or_a_value_error(text: str) -> None:
    try:
        rate = rate_of_hourly(text)
    except ValueError:
        return
    assert 0 <= rate <= RATE_MAX


@given(st.integers(0, RATE_MAX))
def test_what_people_read_is_near_what_we_count(rate: int) -> None:
    assert abs(rate_of_hourly(hourly_of_rate(rate)) - rate) <= 14  # Half of 0.0001 an hour.


@given(st.integers(0, MONEY_MAX))
def test_amounts_are_shown_to_the_last_nano(amount: int) -> None:
    assert int(Decimal(credits_of_nano(amount)).scaleb(9)) == amount


def test_sizes_are_read_in_the_largest_unit_that_fits() -> None:
    told = [size_of_mib(mib) for mib in (0, 512, 1023, 1024, 1536, 19_284, 2**20, 3 * 2**19)]
    assert told == [
        "0 MiB", "512 MiB", "1023 MiB", "1 GiB", "1.5 GiB", "18.8 GiB", "1 TiB", "1.5 TiB",
    ]  # fmt: skip


def test_a_credit_is_a_billion_nano_credits() -> None:
    assert credits_of_nano(NANO + 1) == "1.000000001"


@pytest.mark.parametrize(
    "reported,gib",
    [(81_559, 80), (24_564, 24), (23_034, 24), (46_068, 48), (143_771, 141), (15_360, 16),
     (11_264, 11), (95_830, 94), (40_960, 40), (183_359, 180)],
)  # fmt: skip
def test_gpus_have_the_memory_with_which_they_are_sold(reported, gib):
    assert nominal_vram(reported) == gib * 1024


def test_a_size_with_which_no_gpu_is_sold_stays():
    assert [nominal_vram(mib) for mib in (0, 70_000, 500_000)] == [0, 70_000, 500_000]
