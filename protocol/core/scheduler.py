"""The scheduler of a requester: waiting jobs get slots, by auctions and awards.

Spec: specs/queue.md. A job enters with `enqueue`. It leaves with an active lease, by a failure that
waiting does not mend, or at its deadline.
"""

from typing import Any, Protocol

from protocol.core.auctions import Auctions
from protocol.core.awards import Awards, Placed
from protocol.core.candidates import Candidates
from protocol.core.gangs import Gangs
from protocol.core.jobs import Job, JobClass, class_of
from protocol.core.queue import JobQueue
from protocol.core.raised_caps import RaisedCaps
from protocol.core.running import earliest
from protocol.core.standings import Standings
from protocol.machines.context import Context
from protocol.machines.effects import Effect, Report
from protocol.machines.events import CANCELLED, Failed, Queued
from protocol.machines.inputs import DeadlineReached, JobCancelled
from protocol.machines.requester import auction, award
from protocol.machines.requester.auction import SoldSlot
from protocol.rules.matching import KNOWS_NOBODY, fits, sentence_of_unreachable
from protocol.rules.standing import BROKEN
from protocol.values.ids import CallId, JobId, LeaseId, PeerId
from protocol.values.limits import (
    AUCTIONS_MAX,
    BUSY_MS_MAX,
    BUSY_MS_MIN,
    OTHERS_WAIT_MS,
    PEERS_WAIT_MS,
    SLOTS_MAX,
    WINDOW_MS_MAX,
)
from protocol.values.reasons import Failure
from protocol.wire.envelope import Signed
from protocol.wire.job import QUEUE_MS_MAX
from protocol.wire.messages import CapabilityRecord

NO_REGION = "no known region has enough slots for all members"
NO_NEIGHBOURS = (
    "too few known nodes are near enough to each other: others of them have just measured longer"
    " round trips than the job wants"
)
NO_PRICE = "a job that names no highest price takes it from nodes that can run it"
FAR_ROUNDS = 16
"""So many times in a row members of a gang may be too far from each other before pauses grow."""
WOKEN_MAX = 64
"""A new record wakes waiting jobs if they have at most this many demands; else they wait longer."""


class OpenJobs(Protocol):
    """What a scheduler asks of those whose jobs it places."""

    def begin_lease(
        self, job: Job, slot: SoldSlot | None, won: award.Won, context: Context
    ) -> list[Effect]:
        """Begin the lease of a job on a slot; the slot is None after a restart."""

    def fail(self, job: Job, failed: Failed, context: Context) -> list[Effect]:
        """End an attempt of a job."""

    def has_lease_of(self, peer: PeerId) -> bool:
        """Return whether we have a lease of a provider."""


class Scheduler:
    """The queue, the auctions and the awards of a requester."""

    def __init__(
        self, auctions: Auctions, candidates: Candidates, standings: Standings,
        illegal: dict[str, int], owners: tuple[OpenJobs, Gangs],
    ) -> None:  # fmt: skip
        """Take what the core knows of peers, and what follows an award or a failure."""
        self.queue = JobQueue()
        self.auctions = auctions
        self.awards = Awards(auctions.distances, illegal)
        self._candidates = candidates
        self._standings = standings
        self._jobs, self._gangs = owners
        self._raised = RaisedCaps(candidates)
        self._hinted: set[JobClass] = set()
        """Classes for which a provider reported capacity while their auction was open."""

    def __contains__(self, job_id: JobId) -> bool:
        """Return whether a job waits, or has an award."""
        return job_id in self.queue or job_id in self.awards

    def next_deadline_ms(self) -> int | None:
        """Return the earliest deadline; None if there is none."""
        each = (self.queue, self.auctions.states, self.awards.states)
        return earliest(*(kind.next_deadline_ms() for kind in each))

    def enqueue(self, job: Job, context: Context) -> list[Effect]:
        """Let a job wait for a slot. `advance` looks for one at once."""
        job_class = class_of(job)
        wait_ms = job.spec.terms.queue_ms or QUEUE_MS_MAX
        since_ms = min(job.waiting_since_ms, context.now_ms)
        self.queue.add(job, job_class, max(since_ms + wait_ms, context.now_ms + 1))
        if self._candidates.is_anybody(job.avoid, context):
            return []
        because, until_ms = (Failure.NO_PEERS, KNOWS_NOBODY), context.now_ms + PEERS_WAIT_MS
        self.queue.block(job_class.block_key, because, context.now_ms, until_ms)
        return self._report_queued(job, *because)

    def advance(self, context: Context) -> list[Effect]:
        """Give waiting jobs the slots that are free, and call for bids for the others."""
        effects: list[Effect] = []
        if not self.queue:
            return effects
        self.auctions.distances.expire(context.now_ms)
        starving = self.queue.starving(context.now_ms)
        for job_class in self.queue.classes() if self.auctions.any_slots() else ():
            if starving and self.queue.order_of(job_class) > starving[1]:
                if self.auctions.can_take(job_class):
                    self.auctions.give_up_free(job_class.key)
                    self.queue.wake(starving[0])
                continue
            while (job := self.queue.first(job_class)) is not None:
                slots = self.auctions.take(job_class, ahead=job.spec.terms.queue_ms > 0)
                if not slots:
                    break
                self.queue.remove(job.job_id)
                effects += self._award(self._gangs.of(job), slots, context)
        while len(self.auctions) < AUCTIONS_MAX:
            ready = self.queue.first_ready()
            if ready is None or (starving and self.queue.order_of(ready) > starving[1]):
                break
            effects += self._call(ready, context)
        return effects

    def reach_deadlines(self, event: DeadlineReached, context: Context) -> list[Effect]:
        """Process all deadlines that have passed."""
        effects: list[Effect] = []
        for job_id in self.queue.take_expired(context.now_ms):
            effects += self._give_up(job_id, context)
        self.queue.wake_due(context.now_ms)
        for call_id in self.auctions.states.take_due(context.now_ms):
            effects += self._take_sale(*self.auctions.step(call_id, event, context), context)
        for lease_id in self.awards.states.take_due(context.now_ms):
            effects += self.step_award(lease_id, event, context)
        return effects

    def cancel(self, event: JobCancelled, context: Context) -> list[Effect]:
        """End a job's wait or its award."""
        job_id = event.job_id
        if job_id in self.awards:
            return self.step_award(self.awards.of_job(job_id), event, context)
        effects: list[Effect] = []
        called = self.auctions.of_job(job_id)
        if called is not None:
            effects = self._take_sale(*self.auctions.step(called, event, context), context)
        failed = Failed(Failure.CANCELLED, CANCELLED)
        return [*effects, *self._jobs.fail(self.queue.remove(job_id), failed, context)]

    # --- what peers say -------------------------------------------------------------------

    def meet(self, peer: PeerId, record: CapabilityRecord) -> None:
        """Let those waiting jobs call that a new record could serve."""
        blocked = self.queue.blocked()
        if not record.providing or len(blocked) > WOKEN_MAX:
            return
        for (demand, avoid), block in blocked:
            # A busy node tells when it has capacity: its record does not.
            if peer not in avoid and not block.is_busy and fits(demand, peer, record):
                self.queue.wake((demand, avoid))

    def hear_bidder(self, event: Signed[Any], context: Context) -> list[Effect]:
        """Pass a commitment, a bid or a refusal to its auction."""
        call_id: CallId = event.message.call_id
        return self._take_sale(*self.auctions.hear(call_id, event, context), context)

    def hear_hint(self, event: Signed[Any]) -> None:
        """Let jobs call that a provider has refused: it has capacity now.

        A provider that has sold us a slot may mean that slot, which carries our next job anyway.
        """
        job_class = self.auctions.class_of(event.message.call_id)
        if job_class is None or self.auctions.has_sold(job_class, event.signer):
            return
        self.queue.wake_oldest(job_class.call.resources)
        if self.queue.is_calling(job_class):
            self._hinted.add(job_class)

    def step_award(self, lease_id: LeaseId, event: Any, context: Context) -> list[Effect]:
        """Pass an input to an award."""
        ended, effects = self.awards.step(lease_id, event, context)
        if ended is None:
            return effects
        placed, state = ended.placed, ended.state
        if isinstance(state, award.Won):
            return [*effects, *self._jobs.begin_lease(placed.job, placed.slot, state, context)]
        if isinstance(event, JobCancelled):
            self.auctions.release(placed.slot)
            failed = Failed(Failure.CANCELLED, CANCELLED)
            return [*effects, *self._jobs.fail(placed.job, failed, context)]
        # It may have declined because it has just accepted another award of ours.
        provider = state.placement.provider
        if state.fault and not (state.fault < BROKEN and self._has_placed(provider)):
            self._standings.strike(provider, state.fault, context.now_ms)
        return [*effects, *self._miss(placed, state, context)]

    def _has_placed(self, provider: PeerId) -> bool:
        """Return whether another job of ours has an award or a lease of a provider."""
        return provider in self.awards.providers() or self._jobs.has_lease_of(provider)

    # --- auctions -------------------------------------------------------------------------

    def _call(self, job_class: JobClass, context: Context) -> list[Effect]:
        """Open an auction for a class of waiting jobs.

        It sells fewer slots than the bidders had left last time: the best bid that does not win
        sets the price.
        """
        job = self.queue.first(job_class)
        assert job is not None
        failures = self.queue.failures(job_class.block_key)
        limit_us = job.spec.terms.max_round_trip_us
        far = self.auctions.distances.to_avoid(limit_us, context.now_ms.to_bytes(8))
        near = self._candidates.without(job, far, context)
        if near is None:
            return self._wait(job, job_class, (Failure.TOO_FAR, NO_NEIGHBOURS), context)
        placed = self._candidates.in_one_region(near, failures, context)
        if placed is None:
            return self._wait(job, job_class, (Failure.NO_MATCH, NO_REGION), context)
        cap = self._raised.cap(placed, job_class, context)
        if cap is None:
            self._raised.forget(job_class)
            because = self._explain_no_bids(job, NO_PRICE, 0, context)
            return self._wait(job, job_class, because, context)
        supply = self.auctions.supply(job_class)
        slots = min(self.queue.count(job_class), max(1, supply - 1), SLOTS_MAX)
        self.queue.begin_call(job_class)
        effects = self.auctions.open(placed, job_class, slots, cap, context)
        # The user knows why the job waits: that it calls again is no news.
        again = self.queue.note_call(job.job_id) and failures > 0
        return [e for e in effects if not (again and isinstance(e, Report))]

    def _take_sale(
        self, sale: auction.Decided | auction.Lost | None, effects: list[Effect], context: Context
    ) -> list[Effect]:
        """Let waiting jobs go on after an auction; `sale` is None if it goes on."""
        if sale is None:
            return effects
        job_class = self.auctions.class_of(sale.auction.call_id)
        assert job_class is not None
        self.queue.end_call(job_class)
        lost = sale if isinstance(sale, auction.Lost) else None
        again = lost is not None and self.queue.failures(job_class.block_key) > 0
        # The job that it began with may have a slot, or have ended: it is told nothing of this.
        told = () if again else self.queue
        effects = [e for e in effects if not isinstance(e, Report) or e.job_id in told]
        if lost is not None:
            effects += self._lose(lost, job_class, context)
        else:
            self._raised.forget(job_class)
            self.queue.forget_block(job_class.block_key)
            if self.auctions.supply(job_class) == 0:
                because = Failure.NO_BIDS, "all capacity that was offered is in use"
                self._pause(job_class, because, BUSY_MS_MAX, context)
        self._hinted.discard(job_class)
        return effects

    def _lose(self, lost: auction.Lost, job_class: JobClass, context: Context) -> list[Effect]:
        """Let the jobs of a class wait after an auction without a sale, or end the first one."""
        reason, why, job_id = lost.reason, lost.why, lost.auction.job_id
        first = self.queue.first(job_class)
        if reason is Failure.CANCELLED or first is None:
            self._raised.forget(job_class)
            return []
        job = first if job_id not in self.queue else self.queue.job(job_id)
        if self._raised.raise_after(lost, job, job_class, context):
            return []  # It calls again at once.
        if reason is Failure.NO_BIDS:
            missing = sum(1 for _ in self.auctions.beyond_reach(lost.auction, context))
            reason, why = self._explain_no_bids(job, why, missing, context)
        frees = [item.free_ms for item in lost.refused if item.free_ms]
        effects = self._wait(job, job_class, (reason, why), context, min(frees, default=0))
        if job_class in self._hinted:  # One of them had capacity while others were asked.
            self.queue.wake(job_class.block_key)
        return effects

    def _wait(
        self, job: Job, job_class: JobClass, because: tuple[Failure, str], context: Context,
        free_ms: int = 0,
    ) -> list[Effect]:  # fmt: skip
        """Let the jobs of a class wait, or end the first one if it does not wait.

        In `free_ms` there is capacity at the latest; 0: nobody knows.
        """
        reason, why = because
        key = job_class.block_key
        since_ms = job.waiting_since_ms
        alone = bool(job.avoid) and reason in {Failure.NO_MATCH, Failure.NO_PEERS}
        if job.spec.terms.queue_ms == 0 or (alone and context.now_ms - since_ms >= OTHERS_WAIT_MS):
            return self._jobs.fail(self.queue.remove(job.job_id), Failed(reason, why), context)
        if alone:  # All that could serve it have failed it, or a restart forgot the others.
            self.queue.hasten(job.job_id, since_ms + OTHERS_WAIT_MS)
        if free_ms:
            why += f"; capacity is free again in {-(-free_ms // 1000)} s at the latest"
        is_news = not self.queue.failures(key) or self.queue.reason_of(job.job_id)[0] is not reason
        self._pause(job_class, (reason, why), free_ms or BUSY_MS_MAX, context)
        return self._report_queued(job, reason, why) if is_news else []

    def _explain_no_bids(
        self, job: Job, refusals: str, missing: int, context: Context
    ) -> tuple[Failure, str]:
        """Return the failure for the user: no peers, no match, or no bids, and why.

        `missing` nodes can serve the job and are not connected.
        """
        explanation = self._candidates.explanation(job.spec, job.avoid, context)
        parts = [f"no bids: {explanation.why}"]
        if not (explanation.nodes or job.avoid) and context.policy.providing:
            parts.append("this node lends resources, but does not run its own jobs")
        parts += [refusals] if refusals else []
        parts += [sentence_of_unreachable(missing)] if missing else []
        reason = Failure.NO_BIDS
        if explanation.slots < job.spec.terms.nodes:
            reason = Failure.NO_MATCH if explanation.nodes else Failure.NO_PEERS
        return reason, "; ".join(parts)

    # --- awards ---------------------------------------------------------------------------

    def _award(self, jobs: list[Job], slots: list[SoldSlot], context: Context) -> list[Effect]:
        """Give a job a slot, or each member of a gang one."""
        effects: list[Effect] = []
        for job, slot in zip(jobs, slots, strict=True):
            decided = self.auctions.decided(slot)
            counted, begun = self.awards.begin(job, decided, slot, context)
            self.auctions.update(counted)
            effects += begun
        return effects

    def _miss(self, placed: Placed, missed: award.Missed, context: Context) -> list[Effect]:
        """Give a job another slot after its award failed, or let it wait for one."""
        job, slot = placed.job, placed.slot
        if missed.is_final and not missed.fault:  # It held its slot; others of the gang had none.
            self.auctions.release(slot)
            reason = Failure.TOO_FAR if missed.far else Failure.EXHAUSTED
            why = missed.far or "not all members found a slot in time"
            return self._gangs.place_again(job, Failed(reason, why), context)
        if slot is not None and self.auctions.give_back(slot):
            return self.enqueue(job, context)
        passed = self.auctions.replace(slot, context) if slot is not None else 1
        job_class = class_of(job)
        bidders = f"{passed} winning bidder{'s' if passed > 1 else ''}"
        because = Failure.EXHAUSTED, f"{bidders} did not take the job, and no other bid is left"
        if job.spec.gang:
            call_id = missed.placement.call_id
            slots = [] if missed.is_final else self.auctions.take_another(job_class, call_id)
            if not slots:
                return self._gangs.place_again(job, Failed(*because), context)
            return self._award([job], slots, context)
        if job.spec.terms.queue_ms == 0 and not self.auctions.can_take(job_class):
            return self._jobs.fail(job, Failed(*because), context)
        return self.requeue(job, because, 0, context)

    def requeue(
        self, job: Job, because: tuple[Failure, str], rounds: int, context: Context
    ) -> list[Effect]:
        """Let a job wait that found no slot; a gang did so `rounds` times in a row."""
        effects, job_class = self.enqueue(job, context), class_of(job)
        if self.auctions.can_take(job_class):
            return effects
        # With what its members have measured it calls for others: nobody need end before.
        waited = max(0, rounds - FAR_ROUNDS) if because[0] is Failure.TOO_FAR else rounds
        self._pause(job_class, because, BUSY_MS_MAX, context, waited)
        return [*effects, *(self._report_queued(job, *because) if rounds <= 1 else [])]

    # --- waiting --------------------------------------------------------------------------

    def _pause(
        self, job_class: JobClass, because: tuple[Failure, str], longest_ms: int, context: Context,
        rounds: int = 0,
    ) -> None:  # fmt: skip
        """Let the jobs of a class wait, longer after each failure, with jitter."""
        key = job_class.block_key
        failures = min(max(self.queue.failures(key), rounds), 10)
        pause_ms = min(BUSY_MS_MIN << failures, BUSY_MS_MAX, longest_ms)
        seed = job_class.key + context.now_ms.to_bytes(8)
        jitter = context.signer.secret(b"pause", seed)[0]
        pause_ms = max(BUSY_MS_MIN, pause_ms * (192 + jitter // 2) // 256)
        self.queue.block(key, because, context.now_ms, context.now_ms + pause_ms)

    def _give_up(self, job_id: JobId, context: Context) -> list[Effect]:
        """End a job that has waited for too long, unless bids for it are on their way."""
        if self.auctions.of_job(job_id) is not None:
            self.queue.postpone(job_id, context.now_ms + WINDOW_MS_MAX)
            return []
        reason, why = self.queue.reason_of(job_id)
        job = self.queue.remove(job_id)
        waited_s = (context.now_ms - job.waiting_since_ms) // 1000
        return self._jobs.fail(job, Failed(reason, f"{why} (it waited for {waited_s} s)"), context)

    def _report_queued(self, job: Job, reason: Failure, why: str) -> list[Effect]:
        queued = Queued(job.attempt, reason, why, self.queue.until_of(job.job_id))
        return [Report(member.job_id, queued) for member in self._gangs.of(job)]
