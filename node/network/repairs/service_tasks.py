"""The cost of starting a task does not depend on the number of tasks.

Without this repair, libp2p's service manager searches all tasks of the service for the parent of
each new task. One peer can cause thousands of tasks, which block the node for up to a minute.

Repaired, each task registers itself when it begins to run, and its manager uses this register.

Spec: specs/network.md.
"""

from typing import Final

import trio
from libp2p.tools.anyio_service.trio_manager import TrioManager
from libp2p.tools.anyio_service.trio_tasks import FunctionTask

RUNNING: Final[dict[trio.lowlevel.Task, FunctionTask]] = {}
STOCK_RUN: Final = FunctionTask.run


async def run(self: FunctionTask) -> None:
    """Run the task, registered for as long as it runs."""
    trio_task = trio.lowlevel.current_task()
    RUNNING[trio_task] = self
    try:
        await STOCK_RUN(self)
    finally:
        del RUNNING[trio_task]


def find_parent_task(self: TrioManager, trio_task: trio.lowlevel.Task) -> FunctionTask | None:
    """Return the manager's task that runs as this trio task, None if there is none."""
    found = RUNNING.get(trio_task)
    root = found
    while root is not None and isinstance(root.parent, FunctionTask):
        root = root.parent
    return found if root in self._root_tasks else None  # It may be another service's.


def apply() -> None:
    """Replace the manager's search, and let tasks register themselves."""
    FunctionTask.run = run  # type: ignore[method-assign]
    TrioManager._find_parent_task = find_parent_task  # type: ignore[method-assign]  # noqa: SLF001
