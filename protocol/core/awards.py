"""The open awards of a requester, and the jobs and slots that they are for.

Spec: specs/auction.md#awards. The members of a gang have their awards together: none is confirmed
before all providers hold their slots.
"""

from dataclasses import dataclass
from typing import Any

from protocol.core.jobs import Job
from protocol.core.running import RunningStates
from protocol.machines.context import Context
from protocol.machines.effects import Effect
from protocol.machines.inputs import MembersHeld
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

    def __init__(self, illegal: dict[str, int]) -> None:
        """Take the counts of illegal inputs."""
        self.states: RunningStates[LeaseId, award.State] = RunningStates()
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
            return None, [*effects, *self._confirm_gang(self._placed[lease_id].job, context)]
        return EndedAward(self._remove(lease_id), state), list(effects)

    def _confirm_gang(self, job: Job, context: Context) -> list[Effect]:
        """Confirm the awards of a gang once all its slots are held."""
        leases = self._gangs.get(job.spec.gang, set())
        states = [self.states[lease_id] for lease_id in leases]
        held = [state for state in states if isinstance(state, award.Accepted)]
        if not leases or len(held) < job.spec.terms.nodes:
            return []
        by_rank = sorted(held, key=lambda state: state.placement.job_id)
        providers = tuple(state.placement.provider for state in by_rank)
        effects: list[Effect] = []
        for state in by_rank:
            lease_id = state.placement.lease_id
            effects += self.step(lease_id, MembersHeld(lease_id, providers), context)[1]
        return effects

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
