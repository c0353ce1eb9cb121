"""What is scheduled happens at its tick, in the order in which it was scheduled.

Spec: specs/simulation.md#stack.
"""

import pytest
import trio

from node.simulator.stack.clock import VirtualClock
from node.simulator.stack.trio_engine import TrioEngine


@pytest.fixture
def clock():
    return VirtualClock(-10)


@pytest.fixture
def engine(clock):
    return TrioEngine(clock)


@pytest.fixture
async def pump(engine, nursery):
    nursery.start_soon(engine.pump)


async def test_calls_happen_in_their_tick_and_in_their_order(clock, engine, pump):
    happened = []

    def note(name):
        happened.append((name, engine.now, clock.ticks))

    engine.at(7, note, "late")
    engine.last(5, (1,), note, "last")
    engine.at(5, note, "one")
    engine.at(5, note, "two")
    await engine.sleep(30)
    assert happened == [("one", 5, 5), ("two", 5, 5), ("last", 5, 5), ("late", 7, 7)]
    assert engine.events == 4


async def test_an_earlier_call_wakes_the_pump(clock, engine, pump):
    happened = []
    engine.at(1_000, happened.append, "late")
    await engine.sleep(1)
    engine.at(3, happened.append, "early")
    engine.last(4, (0,), happened.append, "soon")
    await engine.sleep(14)
    assert happened == ["early", "soon"]


async def test_a_call_that_is_made_for_now_happens_now(clock, engine, pump):
    ticks = []
    engine.at(2, lambda: engine.at(2, lambda: ticks.append(clock.ticks)))
    await engine.sleep(100)
    assert ticks == [2]


async def test_the_present_is_the_clock_s(clock, engine):
    await trio.sleep(0.001)
    assert engine.now == -10
    engine.catch_up()
    assert engine.now == clock.ticks == 0
