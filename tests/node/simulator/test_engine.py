"""Virtual time: every event happens once, in the order of ticks and then of scheduling.

Spec: specs/simulation.md#engine.
"""

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.simulator.engine import NEVER, Engine

Plan = tuple[int, list[Any]]
"""How long after the event before it one happens, and what it schedules."""
PLANS = st.recursive(
    st.tuples(st.integers(0, 3), st.builds(list)),
    lambda inner: st.tuples(st.integers(0, 3), st.lists(inner, max_size=4)),
    max_leaves=30,
)


def happening(engine: Engine, plans: list[Plan]) -> list[tuple[int, int]]:
    """Schedule what is planned; return the list that grows with what happens: ticks and names."""
    seen: list[tuple[int, int]] = []

    def happen(name: int, following: list[Plan]) -> None:
        seen.append((engine.now, name))
        schedule(following)

    def schedule(several: list[Plan]) -> None:
        for after, following in several:
            engine.after(after, happen, id(following), following)

    schedule(plans)
    return seen


def expected(plans: list[Plan]) -> list[tuple[int, int]]:
    """Return the same by a heap of ticks and running numbers."""
    heap: list[tuple[int, int, list[Plan]]] = []
    seen, count, now = [], 0, 0
    waiting = plans
    while True:
        for after, following in waiting:
            count += 1
            heappush(heap, (now + after, count, following))
        if not heap:
            return seen
        now, _, waiting = heappop(heap)
        seen.append((now, id(waiting)))


@settings(max_examples=40)
@given(st.lists(PLANS, max_size=8))
def test_events_happen_by_tick_and_then_as_they_were_scheduled(plans: list[Plan]) -> None:
    engine = Engine()
    seen = happening(engine, plans)
    engine.run(1_000)
    assert seen == expected(plans)
    assert engine.events == len(seen)
    assert engine.now == 1_000
    assert engine.next_tick() == NEVER


@settings(max_examples=40)
@given(st.lists(PLANS, max_size=8), st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9))))
def test_a_run_that_is_interrupted_goes_on_as_if_it_were_not(
    plans: list[Plan], stops: list[tuple[int, int]]
) -> None:
    engine = Engine()
    seen = happening(engine, plans)
    until = 0
    for more, events in stops:
        goal, until = len(seen) + events, until + more
        held = engine.run_until(lambda goal=goal: len(seen) >= goal, until)
        assert held == (len(seen) >= goal)
        assert engine.events == len(seen)
        assert engine.now <= max(until, 0)
    engine.run(1_000)
    assert seen == expected(plans)
    assert engine.events == len(seen)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 99), st.booleans()), unique_by=repr))
def test_what_comes_last_comes_after_the_rest_of_its_tick_by_its_place(
    wanted: list[tuple[int, int, bool]],
) -> None:
    engine, seen = Engine(), []
    numbered = [(*each, number) for number, each in enumerate(wanted)]
    for tick, place, is_last, number in numbered:
        if is_last:
            engine.last(tick, (place, number), seen.append, (tick, 1, place, number))
        else:
            engine.at(tick, seen.append, (tick, 0, 0, number))
    engine.run(10)
    assert seen == sorted(
        (tick, 1, place, number) if is_last else (tick, 0, 0, number)
        for tick, place, is_last, number in numbered
    )


def test_what_comes_last_may_cause_more_in_its_tick() -> None:
    engine, seen = Engine(), []
    engine.last(5, (2,), lambda: engine.after(0, seen.append, "more"))
    engine.last(5, (1,), lambda: engine.last(5, (0,), seen.append, "last of all"))
    engine.at(5, seen.append, "first")
    engine.run(6)
    assert seen == ["first", "more", "last of all"]


def test_an_event_in_the_past_happens_now() -> None:
    engine, seen = Engine(), []
    engine.run(100)
    engine.at(3, lambda: seen.append(engine.now))
    engine.last(3, (0,), lambda: seen.append(-engine.now))
    engine.run(100)
    assert not seen
    engine.run(101)
    assert seen == [100, -100]


def test_an_exception_stops_the_run_and_loses_no_other_event() -> None:
    engine, seen = Engine(), []

    def fail() -> None:
        raise LookupError

    for call in (lambda: seen.append(1), fail, lambda: seen.append(2)):
        engine.at(1, call)
    with pytest.raises(LookupError):
        engine.run(5)
    assert (seen, engine.events) == ([1], 2)
    engine.run(5)
    assert (seen, engine.events) == ([1, 2], 3)


def test_a_condition_is_tested_before_each_event() -> None:
    engine, seen = Engine(), []
    calls: list[Callable[[], object]] = [lambda: seen.append(1), lambda: seen.append(2)]
    for call in calls:
        engine.at(1, call)
    assert engine.run_until(lambda: bool(seen), 5)
    assert seen == [1]
    assert engine.run_until(lambda: len(seen) == 2, 5)
    assert engine.now == 1
    assert not engine.run_until(lambda: False, 5)
    assert engine.now == 5


def test_what_was_due_in_skipped_time_happens_after_it() -> None:
    engine, seen = Engine(), []
    for tick in (3, 5, 20):
        engine.at(tick, lambda: seen.append(engine.now))
    engine.skip(10)
    engine.run(30)
    assert seen == [10, 10, 20]
    assert engine.now == 30
