"""Something that goes on beside the loop, and can be stopped at any time.

Spec: specs/core.md#driver.
"""

from collections.abc import Awaitable, Callable

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
