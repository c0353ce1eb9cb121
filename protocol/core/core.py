"""One node's protocol state, and the way of every input through it.

Spec: specs/core.md. The driver gives one input, performs every effect, then gives the next.
Nothing here waits, reads a clock or rolls dice.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

from protocol.core.directory import Directory
from protocol.core.jobs import (
    Ending,
    Job,
    Uncalled,
    able_to_bid,
    after_failure,
    call_for,
    failure_of,
    may_bid,
)
from protocol.core.presence import Presence
from protocol.core.provider import Provider
from protocol.core.standings import Standings
from protocol.machines.context import Context, Policy
from protocol.machines.effects import Effect, Reach, Report, Save, Send, Settle
from protocol.machines.events import (
    CANCELLED,
    Announced,
    Failed,
    Retrying,
    WaitingForProvider,
)
from protocol.machines.inputs import (
    DeadlineReached,
    Input,
    JobCancelled,
    JobSubmitted,
    OutputsFetched,
    OutputsLost,
    PeerConnected,
    PeerDisconnected,
    PolicyChanged,
    StopRequested,
)
from protocol.machines.requester import auction, lease
from protocol.machines.table import due, step
from protocol.rules.matching import sentence_of_unreachable
from protocol.rules.metering import amount_of
from protocol.rules.standing import BROKEN
from protocol.values.ids import CallId, JobId, LeaseId, PeerId
from protocol.values.limits import BIDS_MAX, PEERS_WAIT_MS
from protocol.values.reasons import Failure, Release
from protocol.wire.envelope import Signed, Signer
from protocol.wire.messages import (
    AwardAccept,
    AwardDecline,
    BidCommit,
    BidRefusal,
    BidReveal,
    CapabilityRecord,
    Completed,
    Heartbeat,
    LeaseActive,
    LeaseRelease,
    Ready,
    Released,
    Started,
)

FOR_AUCTIONS = BidCommit | BidReveal | BidRefusal
FOR_AWARDS = AwardAccept | AwardDecline | LeaseActive
FOR_LEASES = Heartbeat | Ready | Started | Completed | Released


CONNECTED_MAX: Final = 1_024
"""Peers taken for connected; a node has far fewer connections."""
TIDY_MS: Final = 10_000
"""How often the directory is searched for what has expired; it costs a look at every record."""


BROKEN_BY_PROVIDER: Final = frozenset(
    {Failure.SANDBOX_FAILED, Failure.PROVIDER_LOST, Failure.OUTPUTS_LOST}
)
"""How a lease ends that its provider took and did not serve. It may say itself that it stops."""


class Core:
    """The only mutable thing in the protocol."""

    def __init__(self, signer: Signer, policy: Policy) -> None:
        """Take our key and what our owner allows."""
        self.signer = signer
        self.policy = policy
        self.jobs: dict[JobId, Job] = {}
        self.uncalled: dict[JobId, Uncalled] = {}
        self.auctions: dict[CallId, auction.State] = {}
        self.leases: dict[LeaseId, lease.State] = {}
        self.directory = Directory()
        self.connected: dict[PeerId, None] = {}
        self._tidied_ms = 0
        self.standings = Standings()
        self.market = Provider(self.standings)
        self.presence = Presence()

    def handle(self, event: Input, now_ms: int) -> list[Effect]:
        """Take one input in; give the effects out, in the order in which to perform them."""
        if isinstance(event, PolicyChanged):
            self.policy = event.policy
        effects = self._take(event, self._context(now_ms))
        for effect in effects:
            if isinstance(effect, Settle) and effect.countersign:
                ours = effect.provider == self.signer.peer_id
                self.standings.settle(effect.requester if ours else effect.provider)
        return effects

    def _take(self, event: Input, context: Context) -> list[Effect]:
        match event:
            case Signed():
                return self._hear(event, context)
            case JobSubmitted(job_id, spec):
                assert job_id not in self.jobs
                return self._open(Job(job_id, spec, context.now_ms), context)
            case JobCancelled(job_id):
                return self._cancel(job_id, event, context)
            case OutputsFetched(lease_id) | OutputsLost(lease_id, _):
                return self._step_lease(lease_id, event, context)
            case PeerConnected(peer):
                self._note_connected(peer)
                self.directory.meet(peer)
                return self.presence.handle(event, context)
            case PeerDisconnected(peer):
                self.connected.pop(peer, None)
                return []
            case PolicyChanged():
                return self.presence.handle(event, context)
            case StopRequested():
                self.policy = replace(self.policy, providing=False)
                return [*self.market.handle(event, context), *self.presence.withdraw(context)]
            case DeadlineReached():
                return self._reach_deadlines(event, context)
            case _:
                return self.market.handle(event, context)

    def knows(self, peer: PeerId) -> bool:
        """Say whether a peer is no stranger: both have signed a receipt, or a lease is on."""
        providers = (state.lease.provider for state in self.leases.values())
        requesters = (state.hold.requester for state in self.market.servings.values())
        return self.standings.of(peer).settled or peer in providers or peer in requesters

    def next_deadline_ms(self) -> int | None:
        """Return when the driver has to wake us, if nothing happens before."""
        deadlines = [*_deadlines(self.auctions.values()), *_deadlines(self.leases.values())]
        deadlines += [*_deadlines(self.uncalled.values()), *_deadlines(self.market.states())]
        if self.presence.refresh_ms is not None:
            deadlines.append(self.presence.refresh_ms)
        return min(deadlines, default=None)

    def recover(
        self,
        jobs: Iterable[Job],
        auctions: Iterable[auction.State],
        leases: Iterable[lease.State],
        now_ms: int,
    ) -> list[Effect]:
        """Go on after a restart with what was written down; return what has to be done for it.

        A job whose auction had not been decided gets a new one: nobody is bound by the old.
        """
        context = self._context(now_ms)
        for state in auctions:
            assert isinstance(state, auction.Awarding | auction.Confirming), "nothing else is saved"
            running = state.awarding if isinstance(state, auction.Confirming) else state
            self.auctions[running.auction.call_id] = auction.resume(state, context)
        effects: list[Effect] = []
        for held in leases:
            resumed, following = lease.resume(held, context)
            self.leases[resumed.lease.lease_id] = resumed
            effects += following
        self.jobs = {job.job_id: job for job in jobs if job.ending is Ending.OPEN}
        busy = {_job_of(state) for state in self.auctions.values()}
        busy |= {state.lease.job_id for state in self.leases.values()}
        for job in list(self.jobs.values()):
            if job.job_id not in busy:
                effects += self._open(job, context)
        return effects

    def _context(self, now_ms: int) -> Context:
        return Context(now_ms, self.signer, self.policy, self.standings.of)

    def _hear(self, event: Signed[Any], context: Context) -> list[Effect]:
        match event.message:
            case CapabilityRecord():
                return self._meet(event, context)
            case BidCommit() | BidReveal() | BidRefusal():
                state = self.auctions.get(event.message.call_id)
                in_time = state is not None and auction.in_time(state)
                self.standings.hear_answer(event.signer, context.now_ms, in_time=in_time)
                return self._step_auction(event.message.call_id, event, context)
            case AwardAccept() | AwardDecline() | LeaseActive():
                call_id = self._auction_of(event.message.lease_id)
                return self._step_auction(call_id, event, context)
            case Heartbeat() | Ready() | Started() | Completed() | Released():
                return self._hear_provider(event, context)
            case LeaseRelease(lease_id):
                if lease_id in self.leases:
                    return self._hear_provider(event, context)
                if (call_id := self._auction_of(lease_id)) is not None:
                    return self._step_auction(call_id, event, context)
        return self.market.hear(event, context)

    def _hear_provider(self, event: Signed[Any], context: Context) -> list[Effect]:
        state = self.leases.get(event.message.lease_id)
        if state is None and isinstance(event.message, Heartbeat):
            # Our release never came, and it may hold a paused container for a job that is over.
            # Said once: it will beat again.
            over = LeaseRelease(event.message.lease_id, Release.FENCED, "the lease is over")
            return [Send(event.signer, context.signer.sign(over).envelope, 0)]
        if state is None or state.lease.provider != event.signer:
            return []
        return self._step_lease(event.message.lease_id, event, context)

    def _meet(self, event: Signed[CapabilityRecord], context: Context) -> list[Effect]:
        """Take a record; call for the jobs that waited for such a node."""
        effects: list[Effect] = []
        if self.directory.add(event, context.now_ms):
            for job_id in list(self.uncalled):
                if may_bid(self.jobs[job_id], event.signer, event.message, context):
                    effects += self._call(job_id, context)
        return effects

    def _open(self, job: Job, context: Context) -> list[Effect]:
        """Call for bids, or wait until somebody is there who might bid."""
        self.jobs[job.job_id] = job
        save = Save("job", job.job_id, job)
        listings = self.directory.listings(context.now_ms)
        if any(may_bid(job, item.peer, item.record, context) for item in listings):
            return [save, *self._call(job.job_id, context)]
        self.uncalled[job.job_id] = Uncalled(context.now_ms + PEERS_WAIT_MS)
        return [save, Report(job.job_id, WaitingForProvider(job.attempt, PEERS_WAIT_MS))]

    def _call(self, job_id: JobId, context: Context) -> list[Effect]:
        job = self.jobs[job_id]
        called = call_for(job, self.directory.listings(context.now_ms), context)
        if self.uncalled.pop(job_id, None):
            # We know next to nobody yet, so that we cannot say when everybody has answered.
            called = replace(called, expected=())
        state, effects = auction.open_auction(called, context)
        self.auctions[called.call_id] = state
        announced = Announced(called.call_id, job.attempt, called.nodes, called.eligible)
        missing = self._beyond_reach(called, context)[:BIDS_MAX]
        return [Report(job_id, announced), *([Reach(missing)] if missing else []), *effects]

    def _note_connected(self, peer: PeerId) -> None:
        self.connected[peer] = None
        if len(self.connected) > CONNECTED_MAX:  # News that a peer has gone may be lost.
            del self.connected[next(iter(self.connected))]

    def _beyond_reach(self, called: auction.Auction, context: Context) -> tuple[PeerId, ...]:
        """Return the nodes that can serve a job, and that we have no connection with."""
        listings = self.directory.listings(context.now_ms)
        able = able_to_bid(called.spec, called.avoid, listings, context)
        return tuple(peer for peer in able if peer not in self.connected)

    def _cancel(self, job_id: JobId, event: JobCancelled, context: Context) -> list[Effect]:
        effects: list[Effect] = []
        if self.uncalled.pop(job_id, None):
            effects += self._fail(job_id, Failed(Failure.CANCELLED, CANCELLED), context)
        for call_id, state in list(self.auctions.items()):
            if _job_of(state) == job_id:
                effects += self._step_auction(call_id, event, context)
        for lease_id, held in list(self.leases.items()):
            if held.lease.job_id == job_id:
                effects += self._step_lease(lease_id, event, context)
        return effects

    def _step_auction(self, call_id: CallId | None, event: Any, context: Context) -> list[Effect]:
        if call_id is None or call_id not in self.auctions:
            return []
        before = self.auctions[call_id]
        state, effects = step(auction.TRANSITIONS, before, event, context)
        for peer, weight in auction.faults(before, event, state):
            self.standings.strike(peer, weight, context.now_ms)
        for peer in auction.unanswered(before, event):
            self.standings.miss_answer(peer, context.now_ms)
        match state:
            case auction.Won(called, provider, lease_id, contract, rate, voucher_ms):
                del self.auctions[call_id]
                terms = lease.Lease(
                    called.job_id, lease_id, provider, contract, rate,
                    called.call.attempt, called.spec.workload, voucher_ms,
                )  # fmt: skip
                self.leases[lease_id], following = lease.begin(terms, context)
                return [*effects, *following]
            case auction.Lost(called, reason, why):
                del self.auctions[call_id]
                if reason is Failure.NO_BIDS and (missing := self._beyond_reach(called, context)):
                    why = f"{why}; {sentence_of_unreachable(len(missing))}"
                failed = Failed(failure_of(called, reason), why)
                return [*effects, *self._fail(called.job_id, failed, context)]
            case _:
                self.auctions[call_id] = state
                return list(effects)

    def _step_lease(self, lease_id: LeaseId, event: Any, context: Context) -> list[Effect]:
        if lease_id not in self.leases:
            return []
        state, effects = step(lease.TRANSITIONS, self.leases[lease_id], event, context)
        match state:
            case lease.Closed(terms):
                del self.leases[lease_id]
                return [*effects, *self._end(terms.job_id, Ending.DONE)]
            case lease.Broken(terms, reason, why, usage_ms):
                del self.leases[lease_id]
                if reason in BROKEN_BY_PROVIDER:
                    self.standings.strike(terms.provider, BROKEN, context.now_ms)
                amount = amount_of(terms.rate, usage_ms)
                failed = Failed(reason, why, terms.provider, usage_ms, amount)
                return [*effects, *self._fail(terms.job_id, failed, context)]
            case _:
                self.leases[lease_id] = state
                return list(effects)

    def _fail(self, job_id: JobId, failed: Failed, context: Context) -> list[Effect]:
        """End a job with its failed attempt, or open the next one."""
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

    def _reach_deadlines(self, event: DeadlineReached, context: Context) -> list[Effect]:
        effects: list[Effect] = []
        for job_id in due(self.uncalled, context.now_ms):
            effects += self._call(job_id, context)
        for call_id in due(self.auctions, context.now_ms):
            effects += self._step_auction(call_id, event, context)
        for lease_id in due(self.leases, context.now_ms):
            effects += self._step_lease(lease_id, event, context)
        effects += self.market.handle(event, context)
        if context.now_ms >= self._tidied_ms + TIDY_MS:
            self._tidied_ms = context.now_ms
            self.directory.expire(context.now_ms)
        return [*effects, *self.presence.handle(event, context)]

    def _auction_of(self, lease_id: LeaseId) -> CallId | None:
        for call_id, state in self.auctions.items():
            awarding = state.awarding if isinstance(state, auction.Confirming) else state
            if isinstance(awarding, auction.Awarding) and awarding.lease_id == lease_id:
                return call_id
        return None


def _job_of(state: auction.State) -> JobId:
    running = state.awarding if isinstance(state, auction.Confirming) else state
    return running.auction.job_id


def _deadlines(states: Iterable[Any]) -> list[int]:
    return [state.deadline_ms for state in states]
