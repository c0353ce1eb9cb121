"""Token buckets: a burst, then so many a minute, whatever the pattern of asking.

Spec: specs/auction.md#rate-limits.
"""

from hypothesis import given
from hypothesis import strategies as st

from protocol.rules.bucket import draw, full_bucket


def drawn(burst: int, per_minute: int, times_ms: list[int]) -> int:
    bucket, taken = full_bucket(burst, per_minute, 0), 0
    for now_ms in times_ms:
        bucket, allowed = draw(bucket, now_ms)
        taken += allowed
    return taken


def test_a_full_bucket_gives_its_burst_at_once() -> None:
    assert drawn(5, 60, [0] * 20) == 5


def test_tokens_refill_with_time() -> None:
    assert drawn(1, 60, [0, 999, 1_999]) == 2
    assert drawn(1, 60, [0, 1_000, 2_000]) == 3


def test_a_clock_that_goes_back_refills_nothing() -> None:
    assert drawn(1, 60, [1_000, 500, 0]) == 1


@given(st.integers(1, 20), st.integers(1, 120), st.lists(st.integers(0, 90_000), max_size=80))
def test_never_more_than_burst_and_refill(burst: int, per_minute: int, gaps: list[int]) -> None:
    times = sorted(gaps)
    bound = burst + (max(times, default=0) * per_minute) // 60_000
    assert drawn(burst, per_minute, times) <= bound


@given(st.integers(1, 20), st.integers(1, 120))
def test_an_idle_bucket_refills_to_its_burst_and_no_further(burst: int, per_minute: int) -> None:
    rest_ms = 60_000 * burst + 60_000
    assert drawn(burst, per_minute, [0] * burst + [rest_ms] * (2 * burst)) == 2 * burst
