"""What is on the wires happens at its tick, in the order in which it was sent.

Spec: specs/simulation.md#stack.
"""

import pytest
import trio

from node.simulator.stack.clock import VirtualClock
from node.simulator.stack.wires import Wires


@pytest.fixture
def clock():
    return VirtualClock(-10)


@pytest.fixture
def wires(clock):
    return Wires(clock)


@pytest.fixture
async def pump(wires, nursery):
    nursery.start_soon(wires.pump)


async def test_calls_happen_in_their_tick_and_in_their_order(clock, wires, pump):
    happened = []

    def note(name):
        happened.append((name, wires.now, clock.ticks))

    wires.at(7, note, "late")
    wires.last(5, (1,), note, "last")
    wires.at(5, note, "one")
    wires.at(5, note, "two")
    await wires.sleep(30)
    assert happened == [("one", 5, 5), ("two", 5, 5), ("last", 5, 5), ("late", 7, 7)]
    assert wires.events == 4


async def test_an_earlier_call_wakes_the_pump(clock, wires, pump):
    happened = []
    wires.at(1_000, happened.append, "late")
    await wires.sleep(1)
    wires.at(3, happened.append, "early")
    wires.last(4, (0,), happened.append, "soon")
    await wires.sleep(14)
    assert happened == ["early", "soon"]


async def test_a_call_that_is_made_for_now_happens_now(clock, wires, pump):
    ticks = []
    wires.at(2, lambda: wires.at(2, lambda: ticks.append(clock.ticks)))
    await wires.sleep(100)
    assert ticks == [2]


async def test_the_present_is_the_clock_s(clock, wires):
    await trio.sleep(0.001)
    assert wires.now == -10
    wires.catch_up()
    assert wires.now == clock.ticks == 0
