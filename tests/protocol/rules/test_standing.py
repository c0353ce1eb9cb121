"""Standing: a broken word weighs, and is forgiven in time.

Spec: specs/standing.md.
"""

from hypothesis import given
from hypothesis import strategies as st

from protocol.rules.standing import (
    BROKEN,
    DECLINED,
    FIRST,
    LAST,
    MIDDLE,
    STRANGER,
    STRIKES_MAX,
    Standing,
    answered,
    kept_unpaid,
    place_of,
    strikes_of,
    struck,
    unanswered,
    unpaid_of,
)
from protocol.values.limits import SILENT_MS, STRIKE_HALF_LIFE_MS, UNPAID_HALF_LIFE_MS

SERVED = Standing(settled=True)


def test_who_served_us_goes_first_and_who_broke_its_word_last() -> None:
    assert [place_of(known, 0) for known in (SERVED, STRANGER)] == [FIRST, MIDDLE]
    assert [place_of(struck(known, BROKEN, 0), 0) for known in (SERVED, STRANGER)] == [LAST, LAST]


def test_one_decline_is_no_harm_and_two_are() -> None:
    once = struck(SERVED, DECLINED, 0)
    assert place_of(once, 0) == FIRST
    assert place_of(struck(once, DECLINED, 1), 1) == LAST


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
