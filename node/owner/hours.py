"""The hours in which an owner lends the machine: "mon-fri 20:00-07:00", "sat-sun", "22:00-06:00".

Spec: specs/owner.md#hours.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MINUTES: Final = 24 * 60
FORM: Final = re.compile(
    r"(?:(?P<first>[a-z]{3})(?:-(?P<last>[a-z]{3}))?)?(?:^|\s+|$)"
    r"(?:(?P<begin>\d{1,2}:\d\d)-(?P<end>\d{1,2}:\d\d))?"
)


@dataclass(frozen=True, slots=True)
class Span:
    """The same hours on some days of the week; an end before the begin is on the next day."""

    days: frozenset[int]
    begin: int = 0
    """In minutes since midnight, as the end."""
    end: int = DAY_MINUTES

    def holds(self, weekday: int, minute: int) -> bool:
        """Return whether a minute of a day is within."""
        if self.begin < self.end:
            return weekday in self.days and self.begin <= minute < self.end
        late = weekday in self.days and minute >= self.begin
        return late or ((weekday - 1) % 7 in self.days and minute < self.end)


def span_of(text: str) -> Span:
    """Return what a text says; ValueError if it says nothing."""
    found = FORM.fullmatch(text.strip().lower())
    if found is None or not (found["first"] or found["begin"]):
        raise ValueError(text)
    days = _days(found["first"], found["last"]) if found["first"] else frozenset(range(7))
    if found["begin"] is None:
        return Span(days)
    begin, end = _minutes(found["begin"]), _minutes(found["end"])
    if begin in {end, DAY_MINUTES}:
        raise ValueError(text)
    return Span(days, begin, end)


def is_open(spans: Sequence[Span], moment: datetime) -> bool:
    """Return whether a moment is within any of the spans, or there are none."""
    minute = moment.hour * 60 + moment.minute
    return not spans or any(span.holds(moment.weekday(), minute) for span in spans)


def next_opening(spans: Iterable[Span], moment: datetime) -> datetime:
    """Return when the earliest span begins after a moment; there must be a span."""
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    days = [midnight + timedelta(days=ahead) for ahead in range(8)]
    begins = (
        day + timedelta(minutes=span.begin)
        for span in spans for day in days if day.weekday() in span.days
    )  # fmt: skip
    return min(begin for begin in begins if begin > moment)


def _days(first: str, last: str | None) -> frozenset[int]:
    begin = DAYS.index(first)
    count = (DAYS.index(last or first) - begin) % 7 + 1
    return frozenset((begin + ahead) % 7 for ahead in range(count))


def _minutes(text: str) -> int:
    hour, minute = map(int, text.split(":"))
    if minute >= 60 or hour * 60 + minute > DAY_MINUTES:
        raise ValueError(text)
    return hour * 60 + minute
