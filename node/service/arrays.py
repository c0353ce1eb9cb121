"""Arrays of jobs as their user sees them: the fold over the ends of their members.

Spec: specs/arrays.md.
"""

import math
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, replace
from typing import Final

import trio

from node.driver.clock import Clock
from node.rpc.job_views import ArrayView, FailureView, JobEventView, MemberView
from node.service.places import PLACE_POLL_S, queue_view
from node.storage.journal import AttemptEnd, Journal
from protocol.core.jobs import Job
from protocol.core.queue import QueuePlace
from protocol.values.errors import Conflict
from protocol.values.ids import JobId
from protocol.values.reasons import Failure
from protocol.values.units import credits_of_nano
from protocol.wire.job import ARRAY_ID_BYTES, ARRAY_INDEX_MAX, JobSpec, array_of, member_id
from protocol.wire.snapshot import from_snapshot

WAITING: Final = frozenset({"queued", "announced", "bids"})
ENDED: Final = frozenset({"done", "failed", "cancelled"})
ARRAY_POLL_S: Final = 0.25
FAILURES_MAX: Final = 20
"""The most different failures that a view lists."""


class Arrays:
    """Reads arrays from the journal."""

    def __init__(
        self,
        journal: Journal,
        clock: Clock,
        is_open: AbstractSet[JobId],
        phases: Mapping[JobId, str],
        place_of: Callable[..., QueuePlace | None],
    ) -> None:
        """Take the open jobs and their phases, as they are at any time, and Core.place_of."""
        self._journal = journal
        self._clock = clock
        self._open = is_open
        self._phases = phases
        self._place_of = place_of
        self.revision = 0
        """Counts the events of all jobs."""

    async def require_same(
        self, array: bytes, specs: Sequence[JobSpec], indices: Sequence[int]
    ) -> None:
        """Raise Conflict unless these are the jobs of an array."""
        rows = await self._journal.jobs_between(*bounds_of(array)) if array else ()
        saved = [from_snapshot(Job, row.data).spec for row in rows]
        wanted = sorted(array_of(specs, array, indices), key=lambda spec: spec.index)
        if len(saved) != len(wanted) or not all(map(is_same, saved, wanted)):
            raise Conflict("this idempotency key belongs to jobs with different content")

    async def members(self, array: bytes) -> tuple[MemberView, ...]:
        return (await self._read(array))[1]

    async def view(self, array: bytes) -> ArrayView:
        return (await self._read(array))[0]

    async def events(self, array: bytes) -> AsyncIterator[JobEventView]:
        """Yield the array whenever it has changed, with the members that have ended since."""
        told: dict[int, MemberView] = {}
        shown = None
        while True:
            revision = self.revision
            view, members = await self._read(array)
            ended = [m for m in members if m.phase in ENDED and told.get(m.index) != m]
            told.update((member.index, member) for member in ended)
            if view != shown:
                shown = view
                detail = {"array": asdict(view), "ended": [asdict(member) for member in ended]}
                yield JobEventView(len(told), self._clock.now_ms(), "members", detail)
            if view.phase in ENDED:
                return
            with trio.move_on_after(PLACE_POLL_S if view.queue else math.inf):
                while revision == self.revision:  # noqa: ASYNC110 - any change of any job.
                    await trio.sleep(ARRAY_POLL_S)

    async def _read(self, array: bytes) -> tuple[ArrayView, tuple[MemberView, ...]]:
        bounds = bounds_of(array)
        (row,) = await self._journal.find_jobs(array.hex(), 1)
        ids = await self._journal.states_between(*bounds)
        phases = {
            job_id: self._phases.get(job_id, "queued") for job_id in ids if job_id in self._open
        }
        ends = await self._journal.ends_between(*bounds)
        members = member_views(ids, phases, ends)
        last_ms = max((end.at_ms for end in ends), default=0)
        view = array_view(from_snapshot(Job, row.data), members, last_ms)
        return replace(view, queue=queue_view(self._place_of(*phases))), members


def is_same(saved: JobSpec, given: JobSpec) -> bool:
    """Return whether a saved job is the given one, which does not know its image yet.

    The image's digest decides, not its name or where it is public.
    """
    ours = saved.workload
    workload = replace(
        given.workload, image_bytes=ours.image_bytes, layers=ours.layers, registry=ours.registry
    )
    return saved == replace(given, workload=workload, image_name=saved.image_name)


def bounds_of(array: bytes) -> tuple[JobId, JobId]:
    """Return the least and the greatest id that a member can have."""
    return member_id(array, 0), member_id(array, ARRAY_INDEX_MAX)


def member_views(
    ids: Iterable[JobId], phases: Mapping[JobId, str], ends: Iterable[AttemptEnd]
) -> tuple[MemberView, ...]:
    """Return the members of an array. `phases` has those that have not ended."""
    last: dict[JobId, AttemptEnd] = {}
    costs: Counter[JobId] = Counter()
    for end in ends:
        last[end.job_id] = end
        costs[end.job_id] += end.amount or 0
    return tuple(
        _member(job_id, phases.get(job_id), last.get(job_id), costs[job_id]) for job_id in ids
    )


def array_view(first: Job, members: tuple[MemberView, ...], last_ms: int) -> ArrayView:
    """Return an array. `first` is any of its jobs, `last_ms` when its last attempt ended."""
    counts = Counter(outcome_of(member) for member in members)
    is_open = counts["waiting"] + counts["running"] > 0
    if is_open:
        phase = "running" if counts["running"] else "queued"
    else:
        phase = next(state for state in ("failed", "cancelled", "done") if counts[state])
    grouped: dict[str, list[int]] = {}
    for member in members:
        if outcome_of(member) == "failed":
            grouped.setdefault(failure_of(member), []).append(member.index)
    most = sorted(grouped.items(), key=lambda item: (-len(item[1]), item[1]))
    cost = sum(member.paid for member in members)
    return ArrayView(
        id=first.spec.array.hex(),
        name=first.spec.name,
        phase=phase,
        image=first.spec.workload.image.hex(),
        command=first.spec.workload.command,
        submitted_ms=first.submitted_ms,
        ended_ms=None if is_open else last_ms,
        size=len(members),
        done=counts["done"],
        failed=counts["failed"],
        cancelled=counts["cancelled"],
        running=counts["running"],
        waiting=counts["waiting"],
        cost=credits_of_nano(cost) if cost else None,
        failures=tuple(FailureView(why, tuple(at)) for why, at in most[:FAILURES_MAX]),
        gang=bool(first.spec.gang),
        max_running=first.spec.max_running,
    )


def outcome_of(member: MemberView) -> str:
    """Return what a member counts as: a job that exits with a code other than 0 has failed."""
    if member.phase == "done":
        return "done" if member.exit_code == 0 else "failed"
    if member.phase in ENDED:
        return member.phase
    return "waiting" if member.phase in WAITING else "running"


def failure_of(member: MemberView) -> str:
    """Return why a member has failed."""
    return member.why or member.reason or f"exit code {member.exit_code}"


def _member(job_id: JobId, phase: str | None, end: AttemptEnd | None, paid: int) -> MemberView:
    index = int.from_bytes(job_id[ARRAY_ID_BYTES:])
    if phase is not None or end is None:
        return MemberView(index, job_id.hex(), phase or "queued", paid=paid)
    ended = end.kind
    if end.reason == Failure.CANCELLED:
        ended = "cancelled"
    reason = None if end.reason == "exited" else end.reason
    return MemberView(index, job_id.hex(), ended, end.exit_code, reason, end.why or None, paid)
