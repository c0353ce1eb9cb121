"""Stock: starting a task looks at every task that runs. Repaired: at none.

Spec: specs/network.md.
"""

import pytest
import trio
from libp2p.tools.anyio_service import Service, background_trio_service, trio_manager
from libp2p.tools.anyio_service.trio_manager import TrioManager
from libp2p.tools.anyio_service.trio_tasks import FunctionTask

from node.network.repairs import service_tasks
from tests.node.network.repairs.stock import stock_function

TASKS = 200
STOCK = stock_function(trio_manager, "TrioManager._find_parent_task")


class ManyTasks(Service):
    """A service with many tasks, of which one has a child that has a child."""

    def __init__(self):
        self.trio_tasks = []
        self.grown = trio.Event()

    async def run(self):
        for _ in range(TASKS):
            self.manager.run_task(self.rest)
        self.manager.run_task(self.bear, 2)
        await self.manager.wait_finished()

    async def bear(self, generations):
        if generations:
            self.manager.run_task(self.bear, generations - 1)
        else:
            self.grown.set()
        await self.rest()

    async def rest(self):
        self.trio_tasks.append(trio.lowlevel.current_task())
        await trio.sleep_forever()


@pytest.fixture
async def service():
    service_tasks.apply()
    service = ManyTasks()
    async with background_trio_service(service):
        await service.grown.wait()
        yield service


def visited(find, manager, monkeypatch):
    """Count the tasks that a search looks at."""
    seen = []
    iterate = FunctionTask.iterate_tasks
    with monkeypatch.context() as patch:
        patch.setattr(
            FunctionTask,
            "iterate_tasks",
            classmethod(lambda _, *tasks: (seen.append(one) or one for one in iterate(*tasks))),
        )
        assert find(manager, trio.lowlevel.current_task()) is None
    return len(seen)


async def test_stock_looks_at_every_task(service, monkeypatch):
    assert visited(STOCK, service.manager, monkeypatch) > TASKS


async def test_repaired_looks_at_none(service, monkeypatch):
    assert visited(TrioManager._find_parent_task, service.manager, monkeypatch) == 0


async def test_the_parent_is_the_one_that_stock_finds(service):
    assert len(service.trio_tasks) == TASKS + 3
    for trio_task in service.trio_tasks:
        found = service.manager._find_parent_task(trio_task)
        assert found is not None
        assert found is STOCK(service.manager, trio_task)


async def test_a_task_of_another_service_is_no_parent(service):
    other = ManyTasks()
    async with background_trio_service(other):
        await other.grown.wait()
        assert other.manager._find_parent_task(service.trio_tasks[-1]) is None


async def test_a_task_that_has_ended_leaves_no_note():
    service_tasks.apply()
    service = ManyTasks()
    async with background_trio_service(service):
        await service.grown.wait()
        assert service_tasks.RUNNING
    assert not service_tasks.RUNNING
