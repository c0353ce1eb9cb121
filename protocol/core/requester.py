"""The requester half of the core: the user's jobs, their auctions and their leases.

Spec: specs/core.md#jobs. An open job has one auction, has one lease, or waits for a provider.
"""

from collections.abc import Collection, Iterable
from dataclasses import replace
from itertools import islice
from typing import Any, Final

from protocol.core.candidates import Candidates
from protocol.core.directory import Directory
from protocol.core.jobs import Ending, Job, Uncalled, after_failure, auction_for
from protocol.core.running import RunningStates, earliest
from protocol.core.standings import Standings
from protocol.machines.context import Context
from protocol.machines.effects import Effect, Reach, Report, Save, Send
from protocol.machines.events import CANCELLED, Announced, Failed, Retrying, WaitingForProvider
from protocol.machines.inputs import (
    DeadlineReached,
    JobCancelled,
    JobSubmitted,
    OutputsFetched,
    OutputsLost,
)
from protocol.machines.requester import auction, lease
from protocol.machines.table import count_illegal, step
from protocol.rules.matching import sentence_of_unreachable
from protocol.rules.metering import amount_of
from protocol.rules.standing import BROKEN
from protocol.values.ids import CallId, JobId, LeaseId, PeerId
from protocol.values.limits import BIDS_MAX, PEERS_WAIT_MS
from protocol.values.reasons import Failure, Release
from protocol.wire.envelope import Signed
from protocol.wire.messages import (
    AwardAccept,
    AwardDecline,
    BidCommit,
    BidRefusal,
    BidReveal,
    Heartbeat,
    LeaseActive,
    LeaseRelease,
)

BROKEN_BY_PROVIDER: Final = frozenset(
    {Failure.SANDBOX_FAILED, Failure.PROVIDER_LOST, Failure.OUTPUTS_LOST}
)
"""Failures that count as a broken promise of the provider. Stopping with notice does not."""


class Requester:
    """The open jobs, and the auction or lease of each."""

    def __init__(
        self,
        directory: Directory,
        standings: Standings,
        connected: Collection[PeerId],
        illegal: dict[str, int],
    ) -> None:
        """Take what the core knows of peers, and the counts of illegal inputs."""
        self.jobs: dict[JobId, Job] = {}
        self.uncalled: RunningStates[JobId, Uncalled] = RunningStates()
        self.auctions: RunningStates[CallId, auction.State] = RunningStates()
        self.leases: RunningStates[LeaseId, lease.State] = RunningStates()
        self._standings = standings
        self._connected = connected
        self._illegal = illegal
        self._candidates = Candidates(directory, standings)
        self._call_of: dict[JobId, CallId] = {}
        self._lease_of: dict[JobId, LeaseId] = {}
        self._awarded: dict[LeaseId, CallId] = {}
        """The auction of each lease that is awarded but not active."""
        self._leases_with: dict[PeerId, int] = {}
        """The number of leases with each provider."""

    def handle(
        self,
        event: JobSubmitted | JobCancelled | OutputsFetched | OutputsLost | DeadlineReached,
        context: Context,
    ) -> list[Effect]:
        """Process a local input: a request of the user, a deadline, or the result of a transfer."""
        match event:
            case JobSubmitted(job_id, spec):
                assert job_id not in self.jobs
                return self._open(Job(job_id, spec, context.now_ms), context)
            case JobCancelled():
                return self._cancel(event, context)
            case DeadlineReached():
                return self._reach_deadlines(event, context)
            case _:
                return self._step_lease(event.lease_id, event, context)

    def call_waiting(self, peer: PeerId, *, providing: bool, context: Context) -> list[Effect]:
        """Call for bids for the jobs that waited for a provider."""
        effects: list[Effect] = []
        for job_id in list(self.uncalled) if providing else ():
            if peer not in {context.signer.peer_id, *self.jobs[job_id].avoid}:
                del self.uncalled[job_id]
                # Few nodes are known yet: nobody can tell when all of them have answered.
                effects += self._call(job_id, (), context)
        return effects

    def hear(self, event: Signed[Any], context: Context) -> list[Effect]:
        """Process a message of a bidder or a provider."""
        match event.message:
            case BidCommit(call_id) | BidReveal(call_id) | BidRefusal(call_id):
                state = self.auctions.get(call_id)
                in_time = state is not None and auction.in_time(state)
                self._standings.hear_answer(event.signer, context.now_ms, in_time=in_time)
                return self._step_auction(call_id, event, context)
            case AwardAccept(lease_id) | AwardDecline(lease_id) | LeaseActive(lease_id):
                return self._step_auction(self._awarded.get(lease_id), event, context)
            case LeaseRelease(lease_id) if lease_id in self._awarded:
                return self._step_auction(self._awarded[lease_id], event, context)
            case _:
                return self._hear_provider(event, context)

    def next_deadline_ms(self) -> int | None:
        """Return the earliest deadline; None if there is none."""
        each = (self.uncalled, self.auctions, self.leases)
        return earliest(*(kind.next_deadline_ms() for kind in each))

    def has_lease_of(self, peer: PeerId) -> bool:
        """Return whether this node has a lease with a provider."""
        return peer in self._leases_with

    def concerns(self, lease_id: LeaseId) -> bool:
        """Return whether this node is the requester of a lease."""
        return lease_id in self.leases or lease_id in self._awarded

    def recover(
        self,
        jobs: Iterable[Job],
        auctions: Iterable[auction.State],
        leases: Iterable[lease.State],
        context: Context,
    ) -> list[Effect]:
        """Continue from the saved state.

        A job whose auction was undecided gets a new auction: the old one binds nobody.
        """
        for state in auctions:
            assert isinstance(state, auction.Awarding | auction.Confirming), "nothing else is saved"
            self._set_auction(auction.resume(state, context))
        effects: list[Effect] = []
        for held in leases:
            resumed, following = lease.resume(held, context)
            self._begin_lease(resumed)
            effects += following
        self.jobs = {job.job_id: job for job in jobs if job.ending is Ending.OPEN}
        for job in list(self.jobs.values()):
            if job.job_id not in self._call_of and job.job_id not in self._lease_of:
                effects += self._open(job, context)
        return effects

    def _reach_deadlines(self, event: DeadlineReached, context: Context) -> list[Effect]:
        """Process all deadlines that have passed."""
        effects: list[Effect] = []
        for job_id in self.uncalled.take_due(context.now_ms):
            del self.uncalled[job_id]
            effects += self._call(job_id, (), context)
        for call_id in self.auctions.take_due(context.now_ms):
            effects += self._step_auction(call_id, event, context)
        for lease_id in self.leases.take_due(context.now_ms):
            effects += self._step_lease(lease_id, event, context)
        return effects

    # --- jobs -----------------------------------------------------------------------------

    def _open(self, job: Job, context: Context) -> list[Effect]:
        """Call for bids, or wait for the first provider."""
        self.jobs[job.job_id] = job
        save = Save("job", job.job_id, job)
        if self._candidates.is_anybody(job.avoid, context):
            expected = self._candidates.expected(job.spec, job.avoid, context)
            return [save, *self._call(job.job_id, expected, context)]
        self.uncalled[job.job_id] = Uncalled(context.now_ms + PEERS_WAIT_MS)
        return [save, Report(job.job_id, WaitingForProvider(job.attempt, PEERS_WAIT_MS))]

    def _call(self, job_id: JobId, expected: tuple[PeerId, ...], context: Context) -> list[Effect]:
        job = self.jobs[job_id]
        called = auction_for(job, expected, context)
        state, effects = auction.open_auction(called, context)
        self._set_auction(state)
        nodes, eligible = self._candidates.count(job.spec, job.avoid, context)
        announced = Report(job_id, Announced(called.call_id, job.attempt, nodes, eligible))
        missing = tuple(islice(self._beyond_reach(called, context), BIDS_MAX))
        return [announced, *([Reach(missing)] if missing else []), *effects]

    def _beyond_reach(self, called: auction.Auction, context: Context) -> Iterable[PeerId]:
        """Yield nodes that can serve a job and are not connected."""
        start = int.from_bytes(called.call_id[:4])
        able = self._candidates.able(called.spec, called.avoid, start, context)
        return (peer for peer in able if peer not in self._connected)

    def _cancel(self, event: JobCancelled, context: Context) -> list[Effect]:
        """End the job's auction, its lease, or its wait."""
        job_id = event.job_id
        if job_id in self.uncalled:
            del self.uncalled[job_id]
            return self._fail(job_id, Failed(Failure.CANCELLED, CANCELLED), context)
        if job_id in self._call_of:
            return self._step_auction(self._call_of[job_id], event, context)
        if job_id in self._lease_of:
            return self._step_lease(self._lease_of[job_id], event, context)
        return []

    def _lose(self, lost: auction.Lost, context: Context) -> list[Effect]:
        called, reason, why = lost.auction, lost.reason, lost.why
        if reason is Failure.NO_BIDS:
            reason, why = self._explain_no_bids(called, why, context)
        return self._fail(called.job_id, Failed(reason, why), context)

    def _explain_no_bids(
        self, called: auction.Auction, refusals: str, context: Context
    ) -> tuple[Failure, str]:
        """Return the failure for the user: no peers, no match, or no bids, and why."""
        explanation = self._candidates.explanation(called.spec, called.avoid, context)
        parts = [f"no bids: {explanation.why}"]
        if not (explanation.nodes or called.avoid) and context.policy.providing:
            parts.append("this node lends resources, but does not run its own jobs")
        missing = sum(1 for _ in self._beyond_reach(called, context))
        parts += [refusals] if refusals else []
        parts += [sentence_of_unreachable(missing)] if missing else []
        reason = Failure.NO_BIDS
        if not explanation.eligible:
            reason = Failure.NO_MATCH if explanation.nodes else Failure.NO_PEERS
        return reason, "; ".join(parts)

    def _fail(self, job_id: JobId, failed: Failed, context: Context) -> list[Effect]:
        """End a job after a failed attempt, or start the next attempt."""
        job = after_failure(self.jobs[job_id], failed.reason, failed.provider)
        if job.ending is not Ending.OPEN:
            return [Report(job_id, failed), *self._end(job_id, job.ending)]
        retrying = Retrying(
            failed.reason, failed.why, failed.provider, failed.usage_ms, failed.amount
        )
        return [Report(job_id, retrying), *self._open(job, context)]

    def _end(self, job_id: JobId, ending: Ending) -> list[Effect]:
        job = self.jobs.pop(job_id)
        return [Save("job", job_id, replace(job, ending=ending))]

    # --- auctions and leases --------------------------------------------------------------

    def _step_auction(self, call_id: CallId | None, event: Any, context: Context) -> list[Effect]:
        if call_id is None or call_id not in self.auctions:
            return []
        before = self.auctions[call_id]
        count_illegal(self._illegal, "auction", auction.ILLEGAL, before, event)
        state, effects = step(auction.TRANSITIONS, before, event, context)
        for peer, weight in auction.faults(before, event, state):
            self._standings.strike(peer, weight, context.now_ms)
        for peer in auction.unanswered(before, event):
            self._standings.miss_answer(peer, context.now_ms)
        match state:
            case auction.Won(called, provider, lease_id, contract, rate, voucher_ms):
                self._end_auction(before)
                terms = lease.Lease(
                    called.job_id, lease_id, provider, contract, rate,
                    called.call.attempt, called.spec.workload, voucher_ms,
                )  # fmt: skip
                begun, following = lease.begin(terms, context)
                self._begin_lease(begun)
                return [*effects, *following]
            case auction.Lost():
                self._end_auction(before)
                return [*effects, *self._lose(state, context)]
            case _:
                self._set_auction(state, before)
                return list(effects)

    def _set_auction(self, state: auction.State, before: auction.State | None = None) -> None:
        called, lease_id = auction.auction_of(state), auction.lease_of(state)
        self.auctions[called.call_id] = state
        self._call_of[called.job_id] = called.call_id
        if before is not None and (awarded := auction.lease_of(before)) is not None:
            del self._awarded[awarded]
        if lease_id is not None:
            self._awarded[lease_id] = called.call_id

    def _end_auction(self, state: auction.State) -> None:
        called = auction.auction_of(state)
        del self.auctions[called.call_id], self._call_of[called.job_id]
        if (awarded := auction.lease_of(state)) is not None:
            del self._awarded[awarded]

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

    def _step_lease(self, lease_id: LeaseId, event: Any, context: Context) -> list[Effect]:
        if lease_id not in self.leases:
            return []
        before = self.leases[lease_id]
        count_illegal(self._illegal, "requester-lease", lease.ILLEGAL, before, event)
        state, effects = step(lease.TRANSITIONS, before, event, context)
        match state:
            case lease.Closed(terms):
                self._end_lease(terms)
                return [*effects, *self._end(terms.job_id, Ending.DONE)]
            case lease.Broken(terms, reason, why, usage_ms):
                self._end_lease(terms)
                if reason in BROKEN_BY_PROVIDER:
                    self._standings.strike(terms.provider, BROKEN, context.now_ms)
                amount = amount_of(terms.rate, usage_ms)
                failed = Failed(reason, why, terms.provider, usage_ms, amount)
                return [*effects, *self._fail(terms.job_id, failed, context)]
            case _:
                self.leases[lease_id] = state
                return list(effects)

    def _begin_lease(self, state: lease.State) -> None:
        terms = state.lease
        self.leases[terms.lease_id] = state
        self._lease_of[terms.job_id] = terms.lease_id
        self._leases_with[terms.provider] = self._leases_with.get(terms.provider, 0) + 1

    def _end_lease(self, terms: lease.Lease) -> None:
        del self.leases[terms.lease_id], self._lease_of[terms.job_id]
        self._leases_with[terms.provider] -= 1
        if not self._leases_with[terms.provider]:
            del self._leases_with[terms.provider]
