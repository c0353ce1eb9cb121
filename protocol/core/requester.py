"""The requester half of the core: the user's jobs, from the queue to their receipts.

Spec: specs/core.md#jobs. An open job is with the scheduler, or has one lease.
"""

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any, Final

from protocol.core.array_limits import ArrayLimits
from protocol.core.auctions import Auctions
from protocol.core.candidates import Candidates
from protocol.core.jobs import (
    WORTH_RETRYING,
    Ending,
    Job,
    after_failure,
    class_of,
    nodes_at_fault,
)
from protocol.core.reconciling import Reconciler
from protocol.core.running import RunningStates, earliest
from protocol.core.scheduler import Scheduler
from protocol.core.standings import Standings
from protocol.machines.context import Context
from protocol.machines.effects import Effect, Report, Save, Send
from protocol.machines.events import Failed, Retrying
from protocol.machines.inputs import (
    ArraySubmitted,
    DeadlineReached,
    Isolated,
    JobCancelled,
    JobSubmitted,
    NetworkLost,
    OutputsFetched,
    OutputsLost,
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
        then = self._begin_lease, self._fail, self.has_lease_of
        self.jobs: dict[JobId, Job] = {}
        self.scheduler = Scheduler(auctions, candidates, standings, illegal, then)
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

    def handle(
        self,
        event: JobSubmitted
        | ArraySubmitted
        | JobCancelled
        | OutputsFetched
        | OutputsLost
        | StateHeard
        | Isolated
        | DeadlineReached,
        context: Context,
    ) -> list[Effect]:
        """Process a local input: a request of the user, a deadline, or the result of a transfer."""
        match event:
            case JobSubmitted(job_id, spec):
                assert job_id not in self.jobs
                effects = self._enqueue(Job(job_id, spec, context.now_ms), context)
            case ArraySubmitted(jobs):
                effects = []
                for each in jobs:
                    assert each.job_id not in self.jobs
                    job = Job(each.job_id, each.spec, context.now_ms)
                    effects += self._enqueue(job, context)
            case JobCancelled(job_id) if job_id in self.scheduler:
                effects = self.scheduler.cancel(event, context)
            case JobCancelled(job_id) if job_id in self._lease_of:
                effects = self._step_lease(self._lease_of[job_id], event, context)
            case JobCancelled():
                effects = []
            case DeadlineReached():
                effects = self.scheduler.reach_deadlines(event, context)
                effects += self._reach_lease_deadlines(event, context)
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
            case LeaseRelease(lease_id) if lease_id in self.scheduler.awards:
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
        return lease_id in self.leases or lease_id in self.scheduler.awards

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
        self.jobs = {job.job_id: job for job in jobs if job.ending is Ending.OPEN}
        for state in awards:
            self.scheduler.recover(state, self.jobs[state.placement.job_id], context)
        effects: list[Effect] = []
        for held in leases:
            resumed, following = lease.resume(held, context)
            self._set_lease(resumed, context)
            effects += following
        # The held ones last: the others have the places of their arrays already.
        for job in sorted(self.jobs.values(), key=lambda job: job.held):
            if job.job_id in self.scheduler or job.job_id in self._lease_of:
                self._limits.admit(job)
            else:
                effects += self._enqueue(job, context)
        return [*effects, *self.scheduler.advance(context)]

    # --- jobs -----------------------------------------------------------------------------

    def _enqueue(self, job: Job, context: Context) -> list[Effect]:
        """Let a job wait for a slot, or first for another job of its array to end."""
        if not self._limits.admit(job):
            self.jobs[job.job_id] = held = replace(job, held=True)
            self.scheduler.queue.hold(held, class_of(held))
            return [Save("job", job.job_id, held)]
        if job.held:  # Its time in the queue begins now.
            job = replace(job, held=False, queued_ms=context.now_ms)
        self.jobs[job.job_id] = job
        return [Save("job", job.job_id, job), *self.scheduler.enqueue(job, context)]

    def _fail(
        self, job: Job, failed: Failed, context: Context, exit_class: str = ""
    ) -> list[Effect]:
        """End a job after a failed attempt, or let the next attempt wait for a slot."""
        following, failed = after_failure(job, failed, exit_class)
        if following.ending is not Ending.OPEN:
            return [Report(job.job_id, failed), *self._end(job, following.ending, context)]
        retrying = Retrying(
            failed.reason, failed.why, failed.provider, failed.usage_ms, failed.amount
        )
        following = replace(following, queued_ms=context.now_ms)
        return [Report(job.job_id, retrying), *self._enqueue(following, context)]

    def _end(self, job: Job, ending: Ending, context: Context) -> list[Effect]:
        """End a job; the next held one of its array may follow it."""
        del self.jobs[job.job_id]
        effects: list[Effect] = [Save("job", job.job_id, replace(job, ending=ending))]
        following = self._limits.leave(job)
        if following is not None:
            effects += self._enqueue(self.scheduler.queue.remove(following), context)
        return effects

    # --- leases ---------------------------------------------------------------------------

    def _begin_lease(
        self, job: Job, slot: SoldSlot | None, won: award.Won, context: Context
    ) -> list[Effect]:
        """Begin the lease of a job whose award is active."""
        placement = won.placement
        terms = lease.Lease(
            job.job_id, placement.lease_id, placement.provider, won.contract, placement.rate,
            placement.attempt, job.spec.workload, placement.voucher_ms,
            job.spec.terms.retry_on_exit, job.exits_seen,
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
                return [*effects, *self._end(self.jobs[terms.job_id], Ending.DONE, context)]
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
                return [*effects, *self._fail(job, failed, context, exit_class)]
            case _:
                self.leases[lease_id] = state
                return list(effects)

    def _set_lease(self, state: lease.State, context: Context) -> None:
        terms = state.lease
        self.leases[terms.lease_id] = state
        self._lease_of[terms.job_id] = terms.lease_id
        self._reconciler.add(terms.provider, terms.lease_id, context)

    def _end_lease(self, terms: lease.Lease) -> None:
        del self.leases[terms.lease_id], self._lease_of[terms.job_id]
        self._reconciler.remove(terms.provider, terms.lease_id)
