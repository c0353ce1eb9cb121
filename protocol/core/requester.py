"""The requester half of the core: the user's jobs, from the queue to their receipts.

Spec: specs/core.md#jobs. An open job is with the scheduler, has one lease, or is a member of a gang
whose first member waits for all.
"""

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any

from protocol.core.array_limits import ArrayLimits
from protocol.core.auctions import Auctions
from protocol.core.candidates import Candidates
from protocol.core.gangs import Gangs
from protocol.core.jobs import (
    Ending,
    Job,
    ResumePoint,
    after_failure,
    class_of,
    nodes_at_fault,
    workload_of,
)
from protocol.core.leases import Leases
from protocol.core.queue import QueuePlace
from protocol.core.running import earliest
from protocol.core.scheduler import Scheduler
from protocol.core.standings import Standings
from protocol.machines.context import Context
from protocol.machines.effects import Effect, KeepCheckpoint, Report, Save
from protocol.machines.events import NO_PROVIDER, Failed, Retrying
from protocol.machines.inputs import (
    ArraySubmitted,
    DeadlineReached,
    JobCancelled,
    JobSubmitted,
    MembersFar,
    MembersHeld,
    MembersNear,
    MembersReady,
    NetworkLost,
    PeerAnswered,
    PeerConnected,
    PeerDisconnected,
)
from protocol.machines.requester import award, lease
from protocol.machines.requester.auction import SoldSlot
from protocol.rules.standing import BROKEN
from protocol.rules.start_promise import latest_start_ms
from protocol.values.ids import NO_LEASE, JobId, LeaseId, PeerId
from protocol.values.limits import STRANGERS_BELIEVED
from protocol.values.reasons import Release
from protocol.wire.envelope import Signed
from protocol.wire.messages import (
    AwardAccept,
    AwardDecline,
    BidCommit,
    BidRefusal,
    BidReveal,
    CapabilityRecord,
    CapacityFree,
    LeaseActive,
    LeaseRelease,
    RoundTrips,
)


class Requester:
    """The open jobs: their scheduler, and their leases."""

    def __init__(
        self,
        candidates: Candidates,
        standings: Standings,
        connected: Collection[PeerId],
        illegal: dict[str, int],
    ) -> None:
        """Take what the core knows of peers, and the counts of illegal inputs."""
        auctions = Auctions(candidates, standings, connected, illegal)
        self.jobs: dict[JobId, Job] = {}
        self._gangs = Gangs(self.jobs, self)
        owners = self, self._gangs
        self.scheduler = Scheduler(auctions, candidates, standings, illegal, owners)
        self.leases = Leases(auctions, standings, connected, illegal, self)
        self._limits = ArrayLimits()
        self._candidates = candidates
        self._standings = standings

    def handle(self, event: Any, context: Context) -> list[Effect]:
        """Process a local input: a request of the user, a deadline, or the result of a transfer."""
        match event:
            case JobSubmitted(job_id, spec):
                effects = self._submit([Job(job_id, spec, context.now_ms)], context)
            case ArraySubmitted(jobs):
                begun = [Job(each.job_id, each.spec, context.now_ms) for each in jobs]
                effects = self._submit(begun, context)
            case JobCancelled(job_id) if job_id in self.jobs and self.jobs[job_id].spec.gang:
                effects = self._gangs.cancel(self.jobs[job_id], context)
            case JobCancelled(job_id) if job_id in self.jobs:
                effects = self.stop(event, NO_PROVIDER, context)
            case JobCancelled():
                effects = []
            case DeadlineReached():
                effects = self.scheduler.reach_deadlines(event, context)
                effects += self.leases.reach_deadlines(event, context)
            case MembersHeld(lease_id) | MembersNear(lease_id) | MembersFar(lease_id):
                effects = self.scheduler.step_award(lease_id, event, context)
            case _:
                effects = self.leases.step(event.lease_id, event, context)
        return [*effects, *self.scheduler.advance(context)]

    def meet(self, peer: PeerId, record: CapabilityRecord, context: Context) -> list[Effect]:
        """Let those waiting jobs call that a new record could serve."""
        if peer != context.signer.peer_id:
            self.scheduler.meet(peer, record)
        return self.scheduler.advance(context)

    def hear(self, event: Signed[Any], context: Context) -> list[Effect]:
        """Process a message of a bidder or a provider."""
        self.leases.note_answer()
        match event.message:
            case BidCommit() | BidReveal() | BidRefusal():
                effects = self.scheduler.hear_bidder(event, context)
            case CapacityFree():
                self.scheduler.hear_hint(event)
                effects = []
            case (
                AwardAccept(lease_id) | AwardDecline(lease_id) | RoundTrips(lease_id)
                | LeaseActive(lease_id)
            ):  # fmt: skip
                effects = self.scheduler.step_award(lease_id, event, context)
            case LeaseRelease(lease_id) if lease_id in self.scheduler.awards.states:
                effects = self.scheduler.step_award(lease_id, event, context)
            case _:
                effects = self.leases.hear(event, context)
        return [*effects, *self.scheduler.advance(context)]

    def watch(
        self, event: PeerConnected | PeerDisconnected | PeerAnswered | NetworkLost, context: Context
    ) -> list[Effect]:
        """Process what the network says about the peers that we have leases with."""
        return [*self.leases.watch(event, context), *self.scheduler.advance(context)]

    def next_deadline_ms(self) -> int | None:
        """Return the earliest deadline; None if there is none."""
        return earliest(self.scheduler.next_deadline_ms(), self.leases.next_deadline_ms())

    def has_lease_of(self, peer: PeerId) -> bool:
        """Return whether this node has a lease with a provider."""
        return self.leases.has_any_of(peer)

    def place_of(self, *job_ids: JobId) -> QueuePlace | None:
        """Return the place in the queue of the first of some jobs; None if none of them waits.

        The first member of a gang waits for all.
        """
        gangs = (self.jobs[one] for one in job_ids if one in self.jobs and self.jobs[one].spec.gang)
        firsts = {self._gangs.of(member)[0].job_id for member in gangs}
        return self.scheduler.queue.place_of(*job_ids, *firsts)

    def concerns(self, lease_id: LeaseId) -> bool:
        """Return whether this node is the requester of a lease."""
        return lease_id in self.leases.states or lease_id in self.scheduler.awards.states

    def recover(
        self,
        jobs: Iterable[Job],
        awards: Iterable[award.State],
        leases: Iterable[lease.State],
        context: Context,
    ) -> list[Effect]:
        """Continue from the saved state.

        A job or gang without award or lease waits in the queue: its auction binds nobody.
        """
        for job in jobs:
            if job.ending is Ending.OPEN:
                self._add(job)
        for state in awards:
            job = self.jobs[state.placement.job_id]
            self.scheduler.awards.recover(state, job, context)
        effects: list[Effect] = []
        for held in leases:
            effects += self.leases.recover(held, context)
        # The held ones last: the others have the places of their arrays already.
        for job in sorted(self.jobs.values(), key=lambda job: job.held):
            if self.is_active(job.job_id):
                self._limits.admit(job)
            elif not job.spec.gang:
                effects += self._enqueue(job, context)
        effects += self._gangs.recover(context)
        return [*effects, *self.scheduler.advance(context)]

    # --- jobs -----------------------------------------------------------------------------

    def _submit(self, jobs: list[Job], context: Context) -> list[Effect]:
        for job in jobs:
            assert job.job_id not in self.jobs
            self._add(job)
        return [effect for job in jobs for effect in self._enqueue(job, context)]

    def _enqueue(self, job: Job, context: Context) -> list[Effect]:
        """Let a job wait for a slot, or first for another job of its array to end."""
        if not self._limits.admit(job):
            self.jobs[job.job_id] = held = replace(job, held=True)
            self.scheduler.queue.hold(held, class_of(held))
            return [Save("job", job.job_id, held)]
        if job.held:  # Its time in the queue begins now.
            job = replace(job, held=False, queued_ms=context.now_ms)
        self.jobs[job.job_id] = job
        save = Save("job", job.job_id, job)
        if job.spec.gang and job.spec.place:  # The first member waits for all.
            return [save]
        return [save, *self.scheduler.enqueue(job, context)]

    def _add(self, job: Job) -> None:
        self.jobs[job.job_id] = job
        if job.spec.gang:
            self._gangs.add(job)

    def fail(
        self, job: Job, failed: Failed, context: Context, exit_class: str = ""
    ) -> list[Effect]:
        """End a job after a failed attempt, or let the next attempt wait for a slot."""
        others = self._candidates.is_anybody((*job.avoid, failed.provider), context)
        strangers = STRANGERS_BELIEVED if others else 2
        joined = self._gangs.fate_of(job, failed)
        following, failed = joined or self._gangs.bound(
            *after_failure(job, failed, exit_class, self._standings.of, strangers)
        )
        if not joined and following.ending is Ending.OPEN:
            following = replace(following, queued_ms=context.now_ms)
        if following.ending is Ending.OPEN and not job.spec.gang:
            return [_retrying(job, failed), *self._enqueue(following, context)]
        effects = self.note(job, following, failed, context)
        if joined:
            return [*effects, *self._gangs.regroup(job, context)]
        if job.spec.gang:
            return [*effects, *self._gangs.stop(following, failed, context)]
        return effects

    def note(self, job: Job, following: Job, failed: Failed, context: Context) -> list[Effect]:
        """Report how an attempt of a job ended, and save what follows."""
        if following.ending is not Ending.OPEN:
            return [Report(job.job_id, failed), *self._end(job, following.ending, context)]
        if following.attempt == job.attempt:
            return []  # It only found no slot.
        self.jobs[job.job_id] = following
        return [_retrying(job, failed), Save("job", job.job_id, following)]

    def _end(self, job: Job, ending: Ending, context: Context) -> list[Effect]:
        """End a job; the next held one of its array may follow it."""
        del self.jobs[job.job_id]
        if job.spec.gang:
            self._gangs.remove(job)
        ended = replace(job, ending=ending, resume=None)
        effects: list[Effect] = [Save("job", job.job_id, ended)]
        following = self._limits.leave(job)
        if following is not None:
            effects += self._enqueue(self.scheduler.queue.remove(following), context)
        return effects

    def is_active(self, job_id: JobId) -> bool:
        """Return whether a job waits in the queue, or has an award or a lease."""
        return job_id in self.scheduler or job_id in self.leases

    def stop(self, event: JobCancelled, lost: PeerId, context: Context) -> list[Effect]:
        """End the wait, the award or the lease of an active job; `lost` sends no bill."""
        if event.job_id in self.scheduler:
            return self.scheduler.cancel(event, context)
        terms = self.leases.of_job(event.job_id).lease
        if terms.provider == lost:
            event = replace(event, reason=Release.SILENT)
        return self.leases.step(terms.lease_id, event, context)

    def wait(self, job: Job, because: Failed | None, rounds: int, context: Context) -> list[Effect]:
        """Let a gang wait for slots; `because` says why it found none, so many rounds in a row."""
        if because is None:
            return self.scheduler.enqueue(job, context)
        stands_by = self.scheduler.auctions.can_take(class_of(job))
        if job.spec.terms.queue_ms == 0 and not stands_by:  # It asks again in its next attempt.
            return self.fail(job, because, context)
        return self.scheduler.requeue(job, (because.reason, because.why), rounds, context)

    # --- leases ---------------------------------------------------------------------------

    def begin_lease(
        self, job: Job, slot: SoldSlot | None, won: award.Won, context: Context
    ) -> list[Effect]:
        """Begin the lease of a job whose award is active."""
        placement = won.placement
        members = self._candidates.members_at(placement.members, context)
        workload = replace(workload_of(job), members=members)
        terms = lease.Lease(
            job.job_id, placement.lease_id, placement.provider, won.contract, placement.rate,
            placement.attempt, workload, placement.voucher_ms,
            job.spec.terms.retry_on_exit, job.exits_seen,
            job.resume.number if job.resume else 0, slot.after if slot else NO_LEASE,
            # Others delay the start of a member, or of a job whose slot is still in use.
            latest_start_ms(slot.start_ms, context.now_ms)
            if slot and not slot.after and not job.spec.gang else 0,
        )  # fmt: skip
        return self.leases.begin(terms, slot, context)

    def finish(self, job_id: JobId, told: Collection[Effect], context: Context) -> list[Effect]:
        """End a job that is done and paid; `told` are the effects of its last step."""
        job = self.jobs[job_id]
        is_told = bool(job.spec.gang and job.spec.place)  # A gang blames once.
        for peer in () if is_told else nodes_at_fault(job, told):
            self._standings.strike(peer, BROKEN, context.now_ms)
            self._standings.note_job(peer, context.now_ms, succeeded=False)
        ended = self._end(job, Ending.DONE, context)
        return [*ended, *self._gangs.note_done(job, told, context)]

    def break_off(
        self, job_id: JobId, failed: Failed, exit_class: str, context: Context
    ) -> list[Effect]:
        """End an attempt of a job whose lease has ended without a result."""
        return self.fail(self.jobs[job_id], failed, context, exit_class)

    def go_on(self, state: lease.State, told: Iterable[Effect], context: Context) -> list[Effect]:
        """Save what its next attempt would continue from; start a gang that is ready."""
        saves = self._note_resume_points(told)
        if not isinstance(state, lease.Deploying) or not state.ready:
            return saves
        members = self._gangs.of(self.jobs[state.lease.job_id])
        held = [self.leases.of_job(one.job_id) for one in members if one.job_id in self.leases]
        ready = [one for one in held if isinstance(one, lease.Deploying) and one.ready]
        if len(ready) < members[0].spec.terms.nodes:
            return saves
        for one in ready:
            lease_id = one.lease.lease_id
            saves += self.leases.step(lease_id, MembersReady(lease_id), context)
        return saves

    def _note_resume_points(self, effects: Iterable[Effect]) -> list[Effect]:
        """Save with its job that a checkpoint is kept, in the transaction that acknowledges it."""
        saves: list[Effect] = []
        for effect in effects:
            if isinstance(effect, KeepCheckpoint):
                kept = effect.checkpoint
                point = ResumePoint(effect.number, kept.listing, kept.size)
                job = self.jobs[effect.job_id] = replace(self.jobs[effect.job_id], resume=point)
                saves.append(Save("job", job.job_id, job))
        return saves


def _retrying(job: Job, failed: Failed) -> Report:
    told = Retrying(failed.reason, failed.why, failed.provider, failed.usage_ms, failed.amount)
    return Report(job.job_id, told)
