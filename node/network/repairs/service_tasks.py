"""Starting a task costs the same however many run.

Without this, libp2p's service manager looks at every task of the service for each that is
started, to find which of them starts it: thousands of tasks, which one peer can cause, keep the
node busy with nothing else for the best part of a minute.

Repaired, each task notes itself as it begins to run, and its manager asks those notes.

Spec: specs/network.md.
"""

from typing import Final

import trio
from libp2p.tools.anyio_service.trio_manager import TrioManager
from libp2p.tools.anyio_service.trio_tasks import FunctionTask

RUNNING: Final[dict[trio.lowlevel.Task, FunctionTask]] = {}
STOCK_RUN: Final = FunctionTask.run


async def run(self: FunctionTask) -> None:
    """Run the task, noted for as long as it runs."""
    trio_task = trio.lowlevel.current_task()
    RUNNING[trio_task] = self
    try:
        await STOCK_RUN(self)
    finally:
        del RUNNING[trio_task]


def find_parent_task(self: TrioManager, trio_task: trio.lowlevel.Task) -> FunctionTask | None:
    """Return the manager's own task that runs as this one of trio, None if there is none."""
    found = RUNNING.get(trio_task)
    root = found
    while root is not None and isinstance(root.parent, FunctionTask):
        root = root.parent
    return found if root in self._root_tasks else None  # It may be another service's.


def apply() -> None:
    """Replace the manager's search, and let tasks note themselves."""
    FunctionTask.run = run  # type: ignore[method-assign]
    TrioManager._find_parent_task = find_parent_task  # type: ignore[method-assign]  # noqa: SLF001
