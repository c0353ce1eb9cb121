"""Virtual time passes while all wait, and never while a thread works.

Spec: specs/simulation.md#stack.
"""

import threading

import pytest
import trio

from node.simulator.network import START_MS
from node.simulator.stack.clock import TICKS_PER_S, VirtualClock, VirtualMilliseconds
from node.storage.journal import open_journal


@pytest.fixture
def clock():
    return VirtualClock()


async def test_time_goes_to_the_next_deadline_and_is_whole_ticks(clock):
    for number in range(1, 1_001):
        await trio.sleep(0.6)
        assert clock.ticks == number * 6_000


async def test_a_deadline_within_a_tick_is_met_at_its_end(clock):
    await trio.sleep(0.000_25)
    assert clock.ticks == 3


def test_a_time_before_the_start_is_negative():
    clock = VirtualClock(-5)
    assert clock.current_time() == -5 / TICKS_PER_S
    assert VirtualMilliseconds(clock).now_ms() == START_MS - 1


async def test_a_node_reads_whole_milliseconds(clock):
    await trio.sleep(1.2345)
    assert VirtualMilliseconds(clock).now_ms() == START_MS + 1_234


async def test_no_time_passes_while_a_thread_works(clock):
    may_end, ticks = threading.Event(), []

    async def work():
        await trio.to_thread.run_sync(may_end.wait)
        ticks.append(clock.ticks)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep, 3_600)
        nursery.start_soon(work)
        await trio.testing.wait_all_tasks_blocked(0.01)
        may_end.set()
    assert ticks == [0]
    assert clock.ticks == 3_600 * TICKS_PER_S


async def test_no_time_passes_while_a_journal_writes(clock, tmp_path):
    with clock.held():
        opened = open_journal(tmp_path / "node.db")
        journal = await opened.__aenter__()
    clock.watched.append(lambda: journal.is_busy)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep, 3_600)
        for number in range(20):
            await journal.set_fact("name", b"%d" % number)
        assert clock.ticks == 0
    assert clock.ticks == 3_600 * TICKS_PER_S
    await opened.__aexit__(None, None, None)


async def test_no_time_passes_while_it_is_held(clock):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep, 1)
        with clock.held():
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert clock.ticks == 0
    assert clock.ticks == TICKS_PER_S
