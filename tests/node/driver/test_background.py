"""An activity ends when it is done or stopped, and says so only when it touches nothing any more.

Spec: specs/core.md#driver.
"""

import pytest
import trio

from node.driver.background import Activity


async def test_it_runs_to_its_end() -> None:
    done = []

    async def action() -> None:
        await trio.lowlevel.checkpoint()
        done.append(1)

    activity = Activity()
    await activity.run(action)
    await activity.wait_over()
    assert done == [1]


async def test_it_can_be_stopped_before_it_begins() -> None:
    activity = Activity()
    activity.stop()
    await activity.run(trio.sleep_forever)
    await activity.wait_over()


async def test_who_waits_for_its_end_waits_for_what_cannot_be_stopped() -> None:
    order = []
    begun, free = trio.Event(), trio.Event()

    async def action() -> None:
        with trio.CancelScope(shield=True):
            begun.set()
            await free.wait()
            order.append("written")

    async def stop() -> None:
        activity.stop()
        await activity.wait_over()
        order.append("over")

    activity = Activity()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(activity.run, action)
        await begun.wait()
        nursery.start_soon(stop)
        await trio.testing.wait_all_tasks_blocked()
        assert order == []
        free.set()
    assert order == ["written", "over"]


async def test_its_errors_are_its_callers() -> None:
    async def action() -> None:
        await trio.lowlevel.checkpoint()
        raise ValueError

    activity = Activity()
    with pytest.raises(ValueError):
        await activity.run(action)
    await activity.wait_over()
