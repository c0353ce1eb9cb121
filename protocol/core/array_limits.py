"""Arrays that run only some of their members at once.

Spec: specs/arrays.md#limit. A member has one of the places of its array from when it begins to wait
for a slot until it ends, also between its attempts. Members beyond them are held.
"""

from dataclasses import dataclass, field

from protocol.core.jobs import Job
from protocol.core.running import LazyHeap
from protocol.values.ids import JobId


@dataclass(slots=True)
class _Members:
    """The open members of one array."""

    admitted: set[JobId] = field(default_factory=set)
    held: LazyHeap[JobId] = field(default_factory=LazyHeap)
    """By their place in the array."""


class ArrayLimits:
    """Which members of arrays with a limit may wait for a slot, or have one."""

    def __init__(self) -> None:
        self._arrays: dict[bytes, _Members] = {}

    def admit(self, job: Job) -> bool:
        """Return whether a job may have a slot now; if not, it is held until `leave` names it."""
        if not job.spec.max_running:
            return True
        members = self._arrays.setdefault(job.spec.array, _Members())
        if job.job_id in members.admitted or len(members.admitted) < job.spec.max_running:
            members.admitted.add(job.job_id)
            return True
        members.held.set(job.job_id, job.spec.place)
        return False

    def leave(self, job: Job) -> JobId | None:
        """Forget a job that has ended; return the held one that may follow it."""
        members = self._arrays.get(job.spec.array)
        if members is None:
            return None
        members.admitted.discard(job.job_id)
        members.held.discard(job.job_id)
        following = members.held.first()
        if not members.admitted and following is None:
            del self._arrays[job.spec.array]
        if following is None or len(members.admitted) >= job.spec.max_running:
            return None
        members.held.discard(following[1])
        return following[1]
