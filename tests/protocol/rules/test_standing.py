"""Standing: a broken word weighs, and is forgiven in time.

Spec: specs/standing.md.
"""

from hypothesis import given
from hypothesis import strategies as st

from protocol.rules.standing import (
    BROKEN,
    DECLINED,
    FIRST,
    JOB,
    JOBS_KEPT,
    LAST,
    MIDDLE,
    PPM,
    STRANGER,
    STRIKES_MAX,
    WEIGHT_MAX,
    Standing,
    aborted,
    answered,
    barred,
    has_served,
    is_refused,
    is_suspect,
    kept_unpaid,
    place_of,
    strikes_of,
    struck,
    success_of,
    tried,
    unanswered,
    unpaid_of,
    weight_of,
)
from protocol.values.limits import (
    ABORT_MS,
    ABORTS_MAX,
    ABORTS_MS,
    BARRED_MS,
    JOBS_HALF_LIFE_MS,
    SILENT_MS,
    STRIKE_HALF_LIFE_MS,
    UNPAID_HALF_LIFE_MS,
)

SERVED = Standing(settled=True)


def test_who_served_us_goes_first_and_who_broke_its_word_last() -> None:
    assert [place_of(known, 0) for known in (SERVED, STRANGER)] == [FIRST, MIDDLE]
    assert [place_of(struck(known, BROKEN, 0), 0) for known in (SERVED, STRANGER)] == [LAST, LAST]


def test_who_failed_us_more_than_it_served_us_has_not_served() -> None:
    assert not has_served(STRANGER)
    assert not has_served(SERVED), "it may only have paid us"
    once = tried(STRANGER, 0, succeeded=True)
    assert has_served(once)
    assert not has_served(tried(once, 0, succeeded=False))


def test_one_decline_is_no_harm_and_two_are() -> None:
    once = struck(SERVED, DECLINED, 0)
    assert place_of(once, 0) == FIRST
    assert place_of(struck(once, DECLINED, 1), 1) == LAST


def test_whose_fraud_is_proven_goes_last_and_is_refused_for_a_while() -> None:
    known = barred(barred(SERVED, 5), 3)
    assert [place_of(known, at_ms) for at_ms in (0, 5 + BARRED_MS)] == [LAST, FIRST]
    assert [is_refused(known, at_ms) for at_ms in (0, 5 + BARRED_MS)] == [True, False]


def test_aborts_count_once_an_hour() -> None:
    known = STRANGER
    for at_ms in (0, 1, ABORT_MS - 1, ABORT_MS):
        known = aborted(known, at_ms)
    assert known.aborts == (0, ABORT_MS)
    times = (ABORT_MS, 2 * ABORT_MS - 1, 2 * ABORT_MS)
    assert [is_suspect(known, at_ms) for at_ms in times] == [True, True, False]
    assert not is_suspect(STRANGER, 0)


def test_who_aborts_often_is_refused_for_a_day() -> None:
    known = STRANGER
    for number in range(ABORTS_MAX):
        assert not is_refused(known, number * ABORT_MS)
        known = aborted(known, number * ABORT_MS)
    assert [is_refused(known, at_ms) for at_ms in (ABORTS_MS - 1, ABORTS_MS)] == [True, False]
    assert len(aborted(known, ABORTS_MS).aborts) == ABORTS_MAX


def test_strikes_halve() -> None:
    broken = struck(SERVED, BROKEN, 1_000)
    times = (1_000, 999 + STRIKE_HALF_LIFE_MS, 1_000 + STRIKE_HALF_LIFE_MS)
    assert [strikes_of(broken, at_ms) for at_ms in times] == [BROKEN, BROKEN, BROKEN // 2]
    assert place_of(broken, times[-1]) == FIRST
    assert strikes_of(broken, 0) == BROKEN, "a clock that was set back forgives nothing"


def test_time_kept_in_vain_adds_up_and_halves() -> None:
    kept = kept_unpaid(kept_unpaid(STRANGER, 100, 0), 100, 1_000)
    assert unpaid_of(kept, 1_000) == 200
    assert unpaid_of(kept, 1_000 + UNPAID_HALF_LIFE_MS) == 100
    assert unpaid_of(kept, 1_000 + 9 * UNPAID_HALF_LIFE_MS) == 0
    assert kept_unpaid(kept, -5, 1_000).unpaid == 200, "a clock that was set back"


def test_who_answered_is_waited_for_until_it_leaves_a_call_unanswered() -> None:
    heard = answered(STRANGER, 0, in_time=False)
    assert heard.answers, "so a newcomer that is slower than the others gets its chance"
    silent = unanswered(heard, 0)
    assert not silent.answers
    assert not answered(silent, SILENT_MS - 1, in_time=False).answers
    assert answered(silent, SILENT_MS, in_time=False).answers
    assert answered(silent, 1, in_time=True).answers


@given(st.lists(st.tuples(st.integers(0, 10**7), st.sampled_from([BROKEN, DECLINED]))))
def test_all_is_forgiven_in_the_end(faults: list[tuple[int, int]]) -> None:
    known, now_ms = STRANGER, 0
    for pause_ms, weight in faults:
        now_ms += pause_ms
        known = struck(known, weight, now_ms)
        assert 0 < strikes_of(known, now_ms) <= STRIKES_MAX
    assert place_of(known, now_ms + 4 * STRIKE_HALF_LIFE_MS) == MIDDLE


# The weight of an ask.


def after_jobs(outcomes: str) -> Standing:
    """Return a standing after jobs that succeeded (+) or failed (-)."""
    known = STRANGER
    for number, outcome in enumerate(outcomes):
        known = tried(known, number, succeeded=outcome == "+")
    return known


def test_who_has_proven_itself_weighs_less_than_a_stranger_and_who_failed_more() -> None:
    weights = [weight_of(after_jobs(each), 0) for each in ("+" * 200, "+" * 5, "", "-", "---")]
    assert weights == sorted(weights)
    assert [round(weight / PPM, 2) for weight in weights] == [1.04, 1.11, 1.25, 1.68, 2.46]


def test_a_provider_that_always_stops_before_the_end_soon_loses_to_an_honest_one() -> None:
    """It asks half of what the honest one asks, and once won ten jobs of ten."""
    honest, cheat, won = after_jobs("+" * 20), STRANGER, 0
    for number in range(10):
        if 500 * weight_of(cheat, number) < 1_000 * weight_of(honest, number):
            cheat, won = tried(cheat, number, succeeded=False), won + 1
    assert won == 3


def test_a_thousand_small_successes_do_not_pay_for_ten_failures() -> None:
    praised = after_jobs("+" * 1_000)
    assert praised.done <= JOBS_KEPT * JOB
    assert weight_of(after_jobs("+" * 1_000 + "-" * 10), 0) > weight_of(STRANGER, 0)


def test_failures_are_forgotten_in_time() -> None:
    failed = tried(STRANGER, 0, succeeded=False)
    assert weight_of(failed, JOBS_HALF_LIFE_MS - 1) == weight_of(failed, 0)
    assert weight_of(STRANGER, 0) < weight_of(failed, JOBS_HALF_LIFE_MS) < weight_of(failed, 0)
    assert weight_of(failed, 20 * JOBS_HALF_LIFE_MS) == weight_of(STRANGER, 0)


@given(st.text("+-", max_size=200))
def test_a_success_never_weighs_more_nor_a_failure_less(outcomes: str) -> None:
    before, better, worse = (after_jobs(outcomes + each) for each in ("", "+", "-"))
    assert success_of(worse, 0) <= success_of(before, 0) <= success_of(better, 0)
    assert PPM <= weight_of(better, 0) <= weight_of(before, 0) <= weight_of(worse, 0) <= WEIGHT_MAX
    assert 0 < success_of(worse, 0) < PPM
