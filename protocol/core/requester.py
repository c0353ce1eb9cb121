"""The requester half of the core: the user's jobs, from the queue to their receipts.

Spec: specs/core.md#jobs. An open job is with the scheduler, or has one lease.
"""

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any, Final

from protocol.core.array_limits import ArrayLimits
from protocol.core.auctions import Auctions
from protocol.core.candidates import Candidates
from protocol.core.gangs import Gangs
from protocol.core.jobs import (
    WORTH_RETRYING,
    Ending,
    Job,
    ResumePoint,
    after_failure,
    class_of,
    nodes_at_fault,
    workload_of,
)
from protocol.core.reconciling import Reconciler
from protocol.core.running import RunningStates, earliest
from protocol.core.scheduler import Scheduler
from protocol.core.standings import Standings
from protocol.machines.context import Context
from protocol.machines.effects import Effect, KeepCheckpoint, Report, Save, Send
from protocol.machines.events import NO_PROVIDER, Failed, Retrying
from protocol.machines.inputs import (
    ArraySubmitted,
    DeadlineReached,
    Isolated,
    JobCancelled,
    JobSubmitted,
    MembersHeld,
    MembersReady,
    NetworkLost,
    PeerAnswered,
    PeerConnected,
    PeerDisconnected,
    StateHeard,
)
from protocol.machines.requester import award, lease
from protocol.machines.requester.auction import SoldSlot
from protocol.machines.table import count_illegal, step
from protocol.rules.metering import amount_of
from protocol.rules.standing import BROKEN
from protocol.values.ids import JobId, LeaseId, PeerId
from protocol.values.reasons import Failure, Release
from protocol.wire.envelope import Signed
from protocol.wire.messages import (
    AwardAccept,
    AwardDecline,
    BidCommit,
    BidRefusal,
    BidReveal,
    CapabilityRecord,
    CapacityFree,
    Heartbeat,
    LeaseActive,
    LeaseEntry,
    LeaseRelease,
    LeaseStates,
)

BROKEN_BY_PROVIDER: Final = frozenset({
    Failure.PROVIDER_LOST, Failure.NOT_STARTED, Failure.OVERRUN, Failure.OUTPUTS_LOST
})  # fmt: skip
"""Failures that count as a broken promise of the provider. Stopping with notice does not; what the
job may have caused counts when another node has done it."""
FAILED_BY_PROVIDER: Final = BROKEN_BY_PROVIDER | {Failure.PROVIDER_STOPPED}
"""Failures that lower its chance of further jobs: work is lost, with or without notice."""


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
        self._candidates = candidates
        self.leases: RunningStates[LeaseId, lease.State] = RunningStates()
        self._limits = ArrayLimits()
        self._standings = standings
        self._illegal = illegal
        self._lease_of: dict[JobId, LeaseId] = {}
        self._slots: dict[LeaseId, SoldSlot] = {}
        """The slot that each lease uses; none after a restart."""
        self._connected = connected
        self._reconciler = Reconciler(self.leases)
        self._network_lost = False
        """Whether no peer answered when one was probed."""

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
                effects += self._reach_lease_deadlines(event, context)
            case MembersHeld(lease_id):
                effects = self.scheduler.step_award(lease_id, event, context)
            case _:
                effects = self._step_lease(event.lease_id, event, context)
        return [*effects, *self.scheduler.advance(context)]

    def meet(self, peer: PeerId, record: CapabilityRecord, context: Context) -> list[Effect]:
        """Let those waiting jobs call that a new record could serve."""
        if peer != context.signer.peer_id:
            self.scheduler.meet(peer, record)
        return self.scheduler.advance(context)

    def hear(self, event: Signed[Any], context: Context) -> list[Effect]:
        """Process a message of a bidder or a provider."""
        self._network_lost = False
        match event.message:
            case BidCommit() | BidReveal() | BidRefusal():
                effects = self.scheduler.hear_bidder(event, context)
            case CapacityFree():
                self.scheduler.hear_hint(event)
                effects = []
            case AwardAccept(lease_id) | AwardDecline(lease_id) | LeaseActive(lease_id):
                effects = self.scheduler.step_award(lease_id, event, context)
            case LeaseRelease(lease_id) if lease_id in self.scheduler.awards.states:
                effects = self.scheduler.step_award(lease_id, event, context)
            case LeaseStates(entries):
                effects = self._hear_states(entries, event.signer, context)
            case _:
                effects = self._hear_provider(event, context)
        return [*effects, *self.scheduler.advance(context)]

    def watch(
        self, event: PeerConnected | PeerDisconnected | PeerAnswered | NetworkLost, context: Context
    ) -> list[Effect]:
        """Process what the network says about the peers that we have leases with."""
        if not isinstance(event, PeerDisconnected):
            self._network_lost = isinstance(event, NetworkLost)
        if isinstance(event, NetworkLost | PeerConnected):
            return []
        theirs = list(self._reconciler.leases_with(event.peer))
        effects = [each for one in theirs for each in self._step_lease(one, event, context)]
        return [*effects, *self.scheduler.advance(context)]

    @property
    def _is_isolated(self) -> bool:
        return self._network_lost or not self._connected

    def next_deadline_ms(self) -> int | None:
        """Return the earliest deadline; None if there is none."""
        each = (self.scheduler, self.leases, self._reconciler)
        return earliest(*(kind.next_deadline_ms() for kind in each))

    def has_lease_of(self, peer: PeerId) -> bool:
        """Return whether this node has a lease with a provider."""
        return peer in self._reconciler

    def concerns(self, lease_id: LeaseId) -> bool:
        """Return whether this node is the requester of a lease."""
        return lease_id in self.leases or lease_id in self.scheduler.awards.states

    def recover(
        self,
        jobs: Iterable[Job],
        awards: Iterable[award.State],
        leases: Iterable[lease.State],
        context: Context,
    ) -> list[Effect]:
        """Continue from the saved state.

        A job without award or lease waits in the queue: its auction binds nobody.
        """
        for job in jobs:
            if job.ending is Ending.OPEN:
                self._add(job)
        for state in awards:
            job = self.jobs[state.placement.job_id]
            self.scheduler.awards.recover(state, job, context)
        effects: list[Effect] = []
        for held in leases:
            resumed, following = lease.resume(held, context)
            self._set_lease(resumed, context)
            effects += following
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
        joined = self._gangs.join(job, failed)
        following, failed = joined or after_failure(job, failed, exit_class)
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
        return job_id in self.scheduler or job_id in self._lease_of

    def stop(self, event: JobCancelled, lost: PeerId, context: Context) -> list[Effect]:
        """End the wait, the award or the lease of an active job; `lost` sends no bill."""
        if event.job_id in self.scheduler:
            return self.scheduler.cancel(event, context)
        lease_id = self._lease_of[event.job_id]
        if self.leases[lease_id].lease.provider == lost:
            event = replace(event, reason=Release.SILENT)
        return self._step_lease(lease_id, event, context)

    def wait(self, job: Job, because: Failed | None, context: Context) -> list[Effect]:
        """Let a gang wait for slots; `because` says why it has found none."""
        if because is None:
            return self.scheduler.enqueue(job, context)
        return self.scheduler.requeue(job, (because.reason, because.why), context)

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
            job.resume.number if job.resume else 0,
        )  # fmt: skip
        state, effects = lease.begin(terms, context)
        self._set_lease(state, context)
        if slot is not None:
            self._slots[placement.lease_id] = slot
        return list(effects)

    def _hear_provider(self, event: Signed[Any], context: Context) -> list[Effect]:
        state = self.leases.get(event.message.lease_id)
        if state is None and isinstance(event.message, Heartbeat):
            # The provider missed our release and may hold a paused container for an ended job.
            # Sent once: the next heartbeat triggers it again.
            over = LeaseRelease(event.message.lease_id, Release.FENCED, "the lease has ended")
            return [Send(event.signer, context.signer.sign(over).envelope, 0)]
        if state is None or state.lease.provider != event.signer:
            return []
        return self._step_lease(event.message.lease_id, event, context)

    def _reach_lease_deadlines(self, event: DeadlineReached, context: Context) -> list[Effect]:
        effects: list[Effect] = []
        for lease_id in self.leases.take_due(context.now_ms):
            isolated = self._is_isolated and isinstance(self.leases[lease_id], lease.Watched)
            due = Isolated(lease_id) if isolated else event
            effects += self._step_lease(lease_id, due, context)
        return [*effects, *self._reconciler.compare(context)]

    def _hear_states(
        self, entries: tuple[LeaseEntry, ...], provider: PeerId, context: Context
    ) -> list[Effect]:
        effects: list[Effect] = []
        for entry in entries:
            if entry.lease_id in self._reconciler.leases_with(provider):
                heard = StateHeard(entry.lease_id, entry.state, entry.vouchers)
                effects += self._step_lease(entry.lease_id, heard, context)
        return effects

    def _step_lease(self, lease_id: LeaseId, event: Any, context: Context) -> list[Effect]:
        if lease_id not in self.leases:
            return []
        before = self.leases[lease_id]
        count_illegal(self._illegal, "requester-lease", lease.ILLEGAL, before, event)
        state, effects = step(lease.TRANSITIONS, before, event, context)
        if isinstance(state, lease.Fetched | lease.Closed) and lease_id in self._slots:
            self.scheduler.auctions.release(self._slots.pop(lease_id))  # The container has exited.
        match state:
            case lease.Closed(terms):
                self._end_lease(terms)
                self._standings.note_job(terms.provider, context.now_ms, succeeded=True)
                for peer in nodes_at_fault(self.jobs[terms.job_id], effects):
                    self._standings.strike(peer, BROKEN, context.now_ms)
                    self._standings.note_job(peer, context.now_ms, succeeded=False)
                job = self.jobs[terms.job_id]
                ended = [*effects, *self._end(job, Ending.DONE, context)]
                return [*ended, *self._gangs.leave(job, ended, context)]
            case lease.Broken(terms, reason, why, usage_ms, exit_class):
                self._end_lease(terms)
                slot = self._slots.pop(lease_id, None)
                if slot is not None and reason in WORTH_RETRYING:  # A losing bid stands by.
                    self.scheduler.auctions.replace(slot, context)
                elif slot is not None:
                    self.scheduler.auctions.release(slot)
                if reason in BROKEN_BY_PROVIDER:
                    self._standings.strike(terms.provider, BROKEN, context.now_ms)
                if reason in FAILED_BY_PROVIDER:
                    self._standings.note_job(terms.provider, context.now_ms, succeeded=False)
                amount = amount_of(terms.rate, usage_ms)
                failed = Failed(reason, why, terms.provider, usage_ms, amount)
                job = self.jobs[terms.job_id]
                return [*effects, *self.fail(job, failed, context, exit_class)]
            case _:
                self.leases[lease_id] = state
                saves = self._note_resume_points(effects)
                return [*effects, *saves, *self._start_gang(state, context)]

    def _start_gang(self, state: lease.State, context: Context) -> list[Effect]:
        """Start the members of a gang once the last one is ready."""
        if not isinstance(state, lease.Deploying) or not state.ready:
            return []
        job = self.jobs[state.lease.job_id]
        held = [self._lease_of[each.job_id] for each in self._gangs.of(job)
                if each.job_id in self._lease_of]  # fmt: skip
        ready = [each for each in held if getattr(self.leases[each], "ready", False)]
        if len(ready) < job.spec.terms.nodes:
            return []
        return [one for each in ready
                for one in self._step_lease(each, MembersReady(each), context)]  # fmt: skip

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

    def _set_lease(self, state: lease.State, context: Context) -> None:
        terms = state.lease
        self.leases[terms.lease_id] = state
        self._lease_of[terms.job_id] = terms.lease_id
        self._reconciler.add(terms.provider, terms.lease_id, context)

    def _end_lease(self, terms: lease.Lease) -> None:
        del self.leases[terms.lease_id], self._lease_of[terms.job_id]
        self._reconciler.remove(terms.provider, terms.lease_id)


def _retrying(job: Job, failed: Failed) -> Report:
    told = Retrying(failed.reason, failed.why, failed.provider, failed.usage_ms, failed.amount)
    return Report(job.job_id, told)
