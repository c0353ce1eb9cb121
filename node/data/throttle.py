"""A limit of the owner on the rate of all transfers in one direction.

Spec: specs/data.md#rate-limits.
"""

import threading
import time
from typing import Final

import trio

MIB: Final = 1024 * 1024
BURST_S: Final = 0.25
"""What was not used for so long may be used at once."""


class Throttle:
    """Bytes per second over all transfers, for tasks and for threads; 0 is no limit."""

    def __init__(self, mib_s: int) -> None:
        self._bytes_s = mib_s * MIB
        self._lock = threading.Lock()
        self._free_at = 0.0  # When all that was granted has passed at this rate.

    def delay_s(self, size: int) -> float:
        """Grant so many bytes; return how long their owner has to wait."""
        if not self._bytes_s:
            return 0
        with self._lock:
            now = time.monotonic()
            self._free_at = max(self._free_at, now - BURST_S) + size / self._bytes_s
            return max(0.0, self._free_at - now)

    def wait(self, size: int) -> None:
        """Wait in a thread until so many bytes may pass."""
        time.sleep(self.delay_s(size))

    async def pause(self, size: int) -> None:
        """Wait in a task until so many bytes may pass."""
        delay_s = self.delay_s(size)
        if delay_s:
            await trio.sleep(delay_s)
