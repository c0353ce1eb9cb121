"""Background tasks beside the driver's loop, which can be stopped at any time.

Spec: specs/core.md#driver.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import trio


class Activity:
    """One background task; it may be stopped even before it has begun."""

    def __init__(self) -> None:
        self._scope = trio.CancelScope()
        self._over = trio.Event()

    async def run(self, action: Callable[[], Awaitable[object]]) -> None:
        """Run the action until it ends or is stopped. To be called once."""
        try:
            with self._scope:
                await action()
        finally:
            self._over.set()

    def stop(self) -> None:
        """Cancel the task without waiting for its end."""
        self._scope.cancel()

    async def wait_over(self) -> None:
        """Wait until the task has ended."""
        await self._over.wait()


class Background:
    """Holds all background tasks while the node runs."""

    def __init__(self) -> None:
        self._nursery: trio.Nursery | None = None

    async def run(self, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Run all tasks, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None

    def begin(self, action: Callable[[], Awaitable[object]]) -> bool:
        """Begin a task; return False if the node is stopping: its next start must do it."""
        if self._nursery is None:
            return False
        self._nursery.start_soon(action)
        return True
