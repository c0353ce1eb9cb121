"""How long the nodes of a run were online, and in use.

Spec: specs/simulation-results.md#tables.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from protocol.rules.capacity import Capacity, left_of, reserve
from protocol.rules.pricing import load_of
from protocol.values.ids import JobId
from protocol.values.units import PPM
from protocol.wire.job import Resources


@dataclass(slots=True)
class _InUse:
    """One provider: the jobs that run there now, and the time until they began or ended last."""

    jobs: dict[JobId, int] = field(default_factory=dict)
    """The share of the node that each has, in millionths."""
    since_ms: int = 0
    busy_ms: int = 0
    used: int = 0
    """In millionths of a millisecond."""

    def advance(self, now_ms: int) -> None:
        """Count the time since the last change."""
        passed_ms = now_ms - self.since_ms
        self.since_ms = now_ms
        if self.jobs:
            self.busy_ms += passed_ms
            self.used += passed_ms * min(PPM, sum(self.jobs.values()))


class UsageOfNodes:
    """Counts for all nodes. Times never go back."""

    def __init__(self, online: NDArray[np.bool_]) -> None:
        """Take which nodes are online at the start."""
        self._online_ms = np.zeros(len(online), np.int64)
        self._is_online = online.copy()
        self._since_ms = np.zeros(len(online), np.int64)
        self._in_use: dict[int, _InUse] = {}
        self._provider_of: dict[JobId, int] = {}

    def begin(self, job: JobId, provider: int, share: int, now_ms: int) -> None:
        """Note that a job runs on a share of a provider, in millionths."""
        self.end(job, now_ms)
        in_use = self._in_use.setdefault(provider, _InUse())
        in_use.advance(now_ms)
        in_use.jobs[job] = share
        self._provider_of[job] = provider

    def end(self, job: JobId, now_ms: int) -> None:
        """Note that a job runs no more."""
        provider = self._provider_of.pop(job, None)
        if provider is not None:
            in_use = self._in_use[provider]
            in_use.advance(now_ms)
            del in_use.jobs[job]

    def change(self, number: int, online: bool, now_ms: int) -> None:  # noqa: FBT001 - as told.
        """Note that a node goes or comes back: its containers end with it."""
        if self._is_online[number]:
            self._online_ms[number] += now_ms - self._since_ms[number]
        self._since_ms[number], self._is_online[number] = now_ms, online
        if not online and number in self._in_use:
            for job in tuple(self._in_use[number].jobs):
                self.end(job, now_ms)

    def online_ms(self, now_ms: int) -> list[int]:
        """Return how long each node was online until now."""
        since = np.where(self._is_online, now_ms - self._since_ms, 0)
        total: list[int] = (self._online_ms + since).tolist()
        return total

    def of(self, number: int, now_ms: int) -> tuple[int, int]:
        """Return how long a node was busy, and how long in use by its share, until now."""
        in_use = self._in_use.get(number)
        if in_use is None:
            return 0, 0
        in_use.advance(now_ms)
        return in_use.busy_ms, in_use.used // PPM


def share_of(total: Capacity, wanted: Resources) -> int:
    """Return which share of a node's scarcest resource one slot takes, in millionths."""
    reservation = reserve(total, wanted)
    return load_of(total, left_of(total, [reservation])) if reservation else PPM
