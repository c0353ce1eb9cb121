"""A promise is the time that is needed; the sooner it is, the more a bid may ask.

Spec: specs/auction.md#start-promise.
"""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.rules.start_promise import (
    LATE_MS,
    LAUNCH_MS,
    UNMEASURED,
    Preparation,
    latest_start_ms,
    promise_of,
    weight_with_start,
)
from protocol.values.limits import START_MS_MAX, START_PERCENT_MAX, WEIGHT_MAX
from protocol.values.units import PPM
from protocol.wire.job import VICKREY, LayerRef, Resources
from protocol.wire.messages import Bid, Call

IMAGE = bytes(range(32))
CALL = Call(
    bytes(16), VICKREY, 0, Resources(), 100, 1_000, 100, 100, 2_000, 0, IMAGE, 12_000_000,
    input_bytes=2_000_000, layers=(LayerRef(b"layer--1", 7), LayerRef(b"layer--3", 1)),
)  # fmt: skip
FASTER = Preparation(1_000_000, 5_000_000)
HERE = Preparation(1_000_000, 5_000_000, (IMAGE[:8],))


def bid(start_ms: int) -> Bid:
    return Bid(10, "embedded", 1, 10_000, 35_000, 0, 1, "", start_ms)


@pytest.mark.parametrize("preparation, promised_ms", [
    (FASTER, LAUNCH_MS + 12_000 + 2_000),
    (HERE, LAUNCH_MS + 2_000),
    (replace(HERE, unpack_rate=0), LAUNCH_MS + 2_000),
    (replace(FASTER, layers=(b"layer--1", b"layer--2")), LAUNCH_MS + 2_000 + 2_659 + 2_000),
    (Preparation(1_000_000), 0),
    (UNMEASURED, 0),
    (Preparation(1, 1), START_MS_MAX),
])  # fmt: skip
def test_a_promise_is_what_is_missing_over_measured_rates(
    preparation: Preparation, promised_ms: int
) -> None:
    assert promise_of(CALL, preparation) == promised_ms


def test_where_all_is_here_nothing_must_be_measured() -> None:
    bare = replace(CALL, fetch_bytes=0, input_bytes=0)
    assert promise_of(bare, UNMEASURED) == LAUNCH_MS


@given(
    st.integers(PPM, WEIGHT_MAX), st.integers(1, START_MS_MAX), st.integers(1, START_MS_MAX),
    st.integers(0, START_PERCENT_MAX),
)  # fmt: skip
def test_a_later_start_never_weighs_less(weight: int, one: int, other: int, percent: int) -> None:
    call = replace(CALL, start_percent=percent)
    sooner, later = (weight_with_start(weight, bid(each), call) for each in sorted((one, other)))
    assert weight <= sooner <= later <= WEIGHT_MAX


def test_a_minute_costs_what_the_job_says() -> None:
    call = replace(CALL, start_percent=50)
    assert weight_with_start(PPM, bid(60_000), call) == PPM * 3 // 2
    assert weight_with_start(PPM, bid(0), call) == WEIGHT_MAX, "no promise is ten minutes"
    assert weight_with_start(PPM, bid(60_000), CALL) == PPM, "only prices count"


def test_a_start_may_take_twice_as_long_and_a_little() -> None:
    assert latest_start_ms(5_000, 100) == 100 + 10_000 + LATE_MS
    assert latest_start_ms(0, 100) == 0
