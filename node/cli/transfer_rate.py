"""How fast a transfer is now, and how long the rest will take.

Spec: specs/rpc.md#command-line.
"""

import time
from collections import deque
from typing import Final

SAMPLES: Final = 8
LEAST_S: Final = 0.5
"""A rate over less time says little."""


class TransferRate:
    """The rate over the last few reports of one transfer."""

    def __init__(self) -> None:
        self._reports: deque[tuple[float, int]] = deque(maxlen=SAMPLES)

    def line_of(self, done: int, total: int) -> str:
        """Return what came of how much, at which rate, and the remaining time, as far as known."""
        share = share_of(done, total)
        if self._reports and done < self._reports[-1][1]:  # Another transfer, on a retry.
            self._reports.clear()
        self._reports.append((time.monotonic(), done))
        (since, before), (now, _) = self._reports[0], self._reports[-1]
        if now - since < LEAST_S or done == before:
            return share
        rate = (done - before) / (now - since)
        left = f", {in_words((total - done) / rate)} left" if done < total else ""
        return f"{share}, {rate / 2**20:,.1f} MiB/s{left}"


def share_of(done: int, total: int) -> str:
    """Return how much of how much has come."""
    return f"{100 * done // max(1, total)} % of {total / 2**20:,.1f} MiB"


def in_words(seconds: float) -> str:
    """Return a duration as people say it."""
    whole = max(1, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
