"""Something that goes on beside the loop, and can be stopped at any time.

Spec: specs/core.md#driver.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import trio


class Activity:
    """One thing that is done; it may be stopped even before it has begun."""

    def __init__(self) -> None:
        self._scope = trio.CancelScope()
        self._over = trio.Event()

    async def run(self, action: Callable[[], Awaitable[object]]) -> None:
        """Do it, until it is done or stopped. To be called once."""
        try:
            with self._scope:
                await action()
        finally:
            self._over.set()

    def stop(self) -> None:
        """Let it end as soon as it can, and do not wait."""
        self._scope.cancel()

    async def wait_over(self) -> None:
        """Wait until it touches nothing any more."""
        await self._over.wait()


class Background:
    """Holds what goes on beside the loop, as long as the node runs."""

    def __init__(self) -> None:
        self._nursery: trio.Nursery | None = None

    async def run(self, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Hold it all, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None

    def begin(self, action: Callable[[], Awaitable[object]]) -> bool:
        """Begin something and return True; a node that ends leaves it to its next start."""
        if self._nursery is None:
            return False
        self._nursery.start_soon(action)
        return True
