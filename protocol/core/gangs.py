"""Gangs: jobs that run together, on all of their slots or on none.

Spec: specs/gangs.md. The first member waits in the queue for all. When one member fails, the others
are stopped; when all have stopped, the gang ends, or waits for its next attempt.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, Protocol

from protocol.core.jobs import Ending, Job
from protocol.machines.context import Context
from protocol.machines.effects import Effect, Report
from protocol.machines.events import CANCELLED, NO_PROVIDER, Done, Failed
from protocol.machines.inputs import JobCancelled
from protocol.values.ids import JobId, PeerId
from protocol.values.reasons import Failure, Release

FINISHED: Final = "; another member has finished, so they cannot run again together"


class Members(Protocol):
    """What a requester does with single members."""

    def is_active(self, job_id: JobId) -> bool:
        """Return whether a job waits in the queue, or has an award or a lease."""

    def stop(self, event: JobCancelled, lost: PeerId, context: Context) -> list[Effect]:
        """End the wait, the award or the lease of a job. It fails now, or when it is billed.

        The provider `lost` will send no bill; empty if there is none.
        """

    def note(self, job: Job, following: Job, failed: Failed, context: Context) -> list[Effect]:
        """Report the end of an attempt, and save the job."""

    def wait(self, job: Job, because: Failed | None, rounds: int, context: Context) -> list[Effect]:
        """Let a gang wait for slots; `because` says why it found none, so many rounds in a row."""


@dataclass(frozen=True, slots=True)
class _Stop:
    """Why a gang stops, and what follows."""

    following: Job
    """The member that failed, after it: ended, or in its next attempt."""
    failed: Failed
    found_no_slot: bool = False
    """Whether that is all: then the same attempt waits again."""

    @property
    def release(self) -> Release:
        """What the providers of the other members are told."""
        cancelled = self.following.ending is Ending.CANCELLED
        return Release.CANCELLED if cancelled else Release.MEMBER_FAILED


class Gangs:
    """The gangs among the open jobs of a requester."""

    def __init__(self, jobs: dict[JobId, Job], members: Members) -> None:
        """Take the open jobs, and what is done with them."""
        self._jobs = jobs
        self._members = members
        self._of: dict[bytes, dict[int, JobId]] = {}
        """The open members of each gang by rank."""
        self._stops: dict[bytes, _Stop] = {}
        """The gangs that stop."""
        self._rounds: dict[bytes, int] = {}
        """How often in a row a gang has had awards, and not all its slots."""

    def add(self, job: Job) -> None:
        """Add an open member."""
        self._of.setdefault(job.spec.gang, {})[job.spec.place] = job.job_id

    def remove(self, job: Job) -> None:
        """Remove a member that has ended."""
        gang = job.spec.gang
        del self._of[gang][job.spec.place]
        if not self._of[gang]:
            del self._of[gang]
            self._stops.pop(gang, None)
            self._rounds.pop(gang, None)

    def of(self, job: Job) -> list[Job]:
        """Return the open members of a job's gang by rank; the job alone if it has none."""
        if not job.spec.gang:
            return [job]
        return [self._jobs[job_id] for _, job_id in sorted(self._of[job.spec.gang].items())]

    def fate_of(self, job: Job, failed: Failed) -> tuple[Job, Failed] | None:
        """Return what follows for a member of a gang that stops; None if it does not stop."""
        stop = self._stops.get(job.spec.gang)
        if stop is None:
            return None
        return _follow(job, failed, stop)

    def bound(self, following: Job, failed: Failed) -> tuple[Job, Failed]:
        """Return what follows a failed attempt: the end, if another member has finished."""
        is_whole = len(self.of(following)) == following.spec.terms.nodes
        if following.ending is not Ending.OPEN or not following.spec.gang or is_whole:
            return following, failed
        return replace(following, ending=Ending.FAILED), replace(failed, why=failed.why + FINISHED)

    def stop(self, following: Job, failed: Failed, context: Context) -> list[Effect]:
        """Stop the other members of a gang after one has failed."""
        return self._stop(_Stop(following, failed), context)

    def place_again(self, job: Job, because: Failed, context: Context) -> list[Effect]:
        """Let a gang wait that found no slot for one of its members: no attempt has failed."""
        return self._stop(_Stop(job, because, found_no_slot=True), context)

    def cancel(self, job: Job, context: Context) -> list[Effect]:
        """Stop a gang for its user."""
        following = replace(job, ending=Ending.CANCELLED)
        failed = Failed(Failure.CANCELLED, CANCELLED)
        return self._stop(_Stop(following, failed), context)

    def note_done(self, job: Job, effects: Iterable[Effect], context: Context) -> list[Effect]:
        """Stop the gang of a member that is done, if it has ended with an error."""
        if not job.spec.gang:
            return []
        events = [effect.event for effect in effects if isinstance(effect, Report)]
        codes = [event.exit_code for event in events if isinstance(event, Done)]
        stop = self._stops.get(job.spec.gang)
        if not any(codes) or (stop is not None and stop.following.ending is not Ending.OPEN):
            return self.regroup(job, context)
        failed = Failed(Failure.EXITED, f"it ended with exit code {codes[0]}")
        return self.stop(replace(job, ending=Ending.FAILED), failed, context)

    def regroup(self, job: Job, context: Context) -> list[Effect]:
        """If all members of a gang have stopped, end it, or let it wait for its next attempt."""
        gang = job.spec.gang
        stop, members = self._stops.get(gang), self._of.get(gang, {})
        if stop is None or any(map(self._members.is_active, members.values())):
            return []
        del self._stops[gang]
        if not members or stop.following.ending is not Ending.OPEN:
            return []
        if len(members) < job.spec.terms.nodes:  # One has finished since it was told to stop.
            return self.stop(*self.bound(stop.following, stop.failed), context)
        first = self._jobs[members[0]]
        if not stop.found_no_slot:
            self._rounds.pop(gang, None)
            return self._members.wait(first, None, 0, context)
        self._rounds[gang] = self._rounds.get(gang, 0) + 1
        return self._members.wait(first, stop.failed, self._rounds[gang], context)

    def recover(self, context: Context) -> list[Effect]:
        """Continue the gangs after a restart: those that were stopping, or waiting for slots."""
        effects: list[Effect] = []
        for members in list(self._of.values()):
            jobs = [self._jobs[job_id] for job_id in members.values()]
            idle = [job for job in jobs if not self._members.is_active(job.job_id)]
            if idle:
                first = max(idle, key=lambda job: job.attempt)
                failed = Failed(Failure.MEMBER_FAILED, "it failed before this node restarted")
                effects += self.stop(first, failed, context)
        return effects

    def _stop(self, stop: _Stop, context: Context) -> list[Effect]:
        gang = stop.following.spec.gang
        if gang not in self._of:
            return []
        self._stops[gang] = stop
        # The last one that stops may let the gang wait again: all others must be ready for it.
        jobs = self.of(stop.following)
        active = [job for job in jobs if self._members.is_active(job.job_id)]
        effects: list[Effect] = []
        for job in jobs:
            if job not in active:
                following, failed = _follow(job, Failed(Failure.MEMBER_FAILED, ""), stop)
                if following != job:
                    effects += self._members.note(job, following, failed, context)
        is_lost = stop.failed.reason is Failure.PROVIDER_LOST
        lost = stop.failed.provider if is_lost else NO_PROVIDER
        for job in active:
            effects += self._members.stop(JobCancelled(job.job_id, stop.release), lost, context)
        return [*effects, *self.regroup(stop.following, context)]


def _follow(job: Job, failed: Failed, stop: _Stop) -> tuple[Job, Failed]:
    """Return a member after the gang has stopped, and how it failed."""
    first = stop.following
    following = replace(
        job, attempt=first.attempt, avoid=first.avoid, failures=first.failures,
        ending=first.ending, queued_ms=first.queued_ms,
    )  # fmt: skip
    if stop.release is Release.CANCELLED:
        return following, replace(failed, reason=Failure.CANCELLED, why=CANCELLED)
    why = f"member {first.spec.place} of the gang failed: {stop.failed.why}"
    return following, replace(failed, reason=Failure.MEMBER_FAILED, why=why)
