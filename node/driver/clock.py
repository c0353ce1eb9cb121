"""The node's one clock: Unix milliseconds when the node started, monotonic from then on.

Spec: specs/core.md#time. Deadlines survive a restart, and setting the machine's clock makes no
deadline fire early or twice. The clock keeps counting while the machine is suspended.
"""

import time


class Clock:
    """Counts milliseconds since 1970 and never goes back."""

    def __init__(self) -> None:
        self._offset_ms = time.time_ns() // 10**6 - _since_boot_ms()

    def now_ms(self) -> int:
        return self._offset_ms + _since_boot_ms()


def _since_boot_ms() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 10**6
