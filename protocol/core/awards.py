"""The open awards of a requester, and the jobs and slots that they are for.

Spec: specs/auction.md#awards. The members of a gang have their awards together: none is confirmed
before all providers hold their slots and, if it matters, are known to be near each other.
"""

from dataclasses import dataclass
from typing import Any

from protocol.core.distances import Distances
from protocol.core.jobs import Job
from protocol.core.running import RunningStates
from protocol.machines.context import Context
from protocol.machines.effects import Effect
from protocol.machines.inputs import MembersFar, MembersHeld, MembersNear
from protocol.machines.requester import award
from protocol.machines.requester.auction import Decided, SoldSlot
from protocol.machines.table import count_illegal, step
from protocol.values.ids import JobId, LeaseId, PeerId


@dataclass(frozen=True, slots=True)
class Placed:
    """A job whose award is open, and its slot; None after a restart."""

    job: Job
    slot: SoldSlot | None


@dataclass(frozen=True, slots=True)
class EndedAward:
    """An award that has just ended."""

    placed: Placed
    state: award.Won | award.Missed


class Awards:
    """The open awards by lease."""

    def __init__(self, distances: Distances, illegal: dict[str, int]) -> None:
        """Take what is known of distances, and the counts of illegal inputs."""
        self.states: RunningStates[LeaseId, award.State] = RunningStates()
        self._distances = distances
        self._illegal = illegal
        self._placed: dict[LeaseId, Placed] = {}
        self._lease_of: dict[JobId, LeaseId] = {}
        self._gangs: dict[bytes, set[LeaseId]] = {}
        """The open awards of each gang."""

    def __contains__(self, job_id: JobId) -> bool:
        """Return whether a job has an award."""
        return job_id in self._lease_of

    def of_job(self, job_id: JobId) -> LeaseId:
        """Return the lease that a job's award is for."""
        return self._lease_of[job_id]

    def providers(self) -> set[PeerId]:
        """Return the providers that have an award."""
        return {state.placement.provider for state in self.states.values()}

    def recover(self, state: award.State, job: Job, context: Context) -> None:
        """Continue a saved award."""
        assert isinstance(state, award.Open), "nothing else is saved"
        self._add(Placed(job, None), award.resume(state, context))

    def begin(
        self, job: Job, decided: Decided, slot: SoldSlot, context: Context
    ) -> tuple[Decided, list[Effect]]:
        """Award a slot to a job. Return the auction, which counts its awards."""
        attempt, gang = (job.job_id, job.attempt), bool(job.spec.gang)
        counted, state, effects = award.begin(decided, slot, attempt, context, gang=gang)
        self._add(Placed(job, slot), state)
        return counted, list(effects)

    def step(
        self, lease_id: LeaseId, event: Any, context: Context
    ) -> tuple[EndedAward | None, list[Effect]]:
        """Pass an input to an award. Return it if it has ended."""
        if lease_id not in self.states:
            return None, []
        before = self.states[lease_id]
        count_illegal(self._illegal, "award", award.ILLEGAL, before, event)
        state, effects = step(award.TRANSITIONS, before, event, context)
        if isinstance(state, award.Open):
            self.states[lease_id] = state
            ended, following = self._go_on(lease_id, context)
            return ended, [*effects, *following]
        return EndedAward(self._remove(lease_id), state), list(effects)

    def _go_on(self, lease_id: LeaseId, context: Context) -> tuple[EndedAward | None, list[Effect]]:
        """Let a gang go on once its last award has come as far as the others.

        When all slots are held, its providers measure the round trips between them, or are
        confirmed at once; when all have measured, they are confirmed, or this award ends.
        """
        job = self._placed[lease_id].job
        leases = self._gangs.get(job.spec.gang, set())
        if not leases or len(leases) < job.spec.terms.nodes:
            return None, []
        states = [self.states[one] for one in leases]
        held = [state for state in states if isinstance(state, award.Accepted)]
        measured = [s for s in states if isinstance(s, award.Measuring) and s.round_trips_us]
        by_rank = sorted(leases, key=lambda one: self.states[one].placement.job_id)
        effects: list[Effect] = []
        if len(held) == len(states):
            providers = tuple(self.states[one].placement.provider for one in by_rank)
            for one in by_rank:
                effects += self.step(one, MembersHeld(one, providers), context)[1]
        elif len(measured) == len(states):
            if why := self._distances.note(measured, context.now_ms):
                return self.step(lease_id, MembersFar(lease_id, why), context)
            for one in by_rank:
                effects += self.step(one, MembersNear(one), context)[1]
        return None, effects

    def _add(self, placed: Placed, state: award.State) -> None:
        lease_id, job = state.placement.lease_id, placed.job
        self.states[lease_id] = state
        self._placed[lease_id] = placed
        self._lease_of[job.job_id] = lease_id
        if job.spec.gang:
            self._gangs.setdefault(job.spec.gang, set()).add(lease_id)

    def _remove(self, lease_id: LeaseId) -> Placed:
        placed = self._placed.pop(lease_id)
        del self.states[lease_id], self._lease_of[placed.job.job_id]
        gang = placed.job.spec.gang
        if gang:
            self._gangs[gang].remove(lease_id)
            if not self._gangs[gang]:
                del self._gangs[gang]
        return placed
