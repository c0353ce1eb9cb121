"""The hours of a week in which the machine is lent. Spec: specs/owner.md#hours."""

from datetime import datetime

import pytest

from node.owner.hours import is_open, next_opening, span_of

MONDAY = datetime(2026, 11, 30)  # noqa: DTZ001 - The clock on the wall.


def at(text: str) -> datetime:
    """Return a moment of one week: "tue 07:00"."""
    day, clock = text.split()
    hour, minute = map(int, clock.split(":"))
    number = ("mon", "tue", "wed", "thu", "fri", "sat", "sun").index(day)
    return (
        MONDAY.replace(hour=hour, minute=minute)
        + (MONDAY.replace(day=2) - MONDAY.replace(day=1)) * number
    )


NIGHTS = [span_of("mon-fri 20:00-07:00"), span_of("sat-sun")]


@pytest.mark.parametrize(
    "moment", ["mon 20:00", "tue 06:59", "fri 23:59", "sat 06:00", "sat 12:00", "sun 23:59"]
)
def test_open(moment: str) -> None:
    assert is_open(NIGHTS, at(moment))


@pytest.mark.parametrize("moment", ["mon 00:00", "mon 06:59", "tue 07:00", "fri 19:59"])
def test_closed(moment: str) -> None:
    """Monday's early morning belongs to no night: Sunday ends at midnight."""
    assert not is_open(NIGHTS, at(moment))


def test_without_hours_it_is_always_open() -> None:
    assert is_open([], MONDAY)


@pytest.mark.parametrize(
    "text, now, opening",
    [
        ("mon-fri 20:00-07:00", "tue 12:00", "tue 20:00"),
        ("mon-fri 20:00-07:00", "sat 12:00", "mon 20:00"),
        ("fri-mon 08:30-24:00", "tue 00:00", "fri 08:30"),
        ("22:00-06:00", "wed 21:59", "wed 22:00"),
        ("sun", "sun 00:00", "sun 00:00"),
        ("Sat", "sun 00:00", "sat 00:00"),
    ],
)
def test_when_it_opens_next(text: str, now: str, opening: str) -> None:
    found = next_opening([span_of(text)], at(now))
    assert f"{found:%a %H:%M}".lower() == opening
    assert is_open([span_of(text)], found)


@pytest.mark.parametrize(
    "text",
    [
        "", "day", "mon-", "mon-fry", "20:00", "20:00-25:00", "20:60-21:00", "24:00-06:00",
        "07:00-07:00", "mon20:00-21:00", "monday", "mon fri", "20-7",
    ],
)  # fmt: skip
def test_what_says_no_hours_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        span_of(text)
