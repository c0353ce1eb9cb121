"""The node's one clock: Unix milliseconds when the node started, monotonic from then on.

Spec: specs/core.md#time. Deadlines survive a restart, and nobody who sets the machine's clock
makes a deadline come early or twice.
"""

import time


class Clock:
    """Counts milliseconds since 1970 without ever going back."""

    def __init__(self) -> None:
        self._offset_ms = time.time_ns() // 10**6 - time.monotonic_ns() // 10**6

    def now_ms(self) -> int:
        return self._offset_ms + time.monotonic_ns() // 10**6
