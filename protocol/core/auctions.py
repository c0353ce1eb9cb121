"""The auctions of a requester: open for bids, or decided with slots that carry its jobs.

Spec: specs/queue.md#auctions.
"""

from collections.abc import Collection, Iterable
from dataclasses import replace
from itertools import islice
from typing import Any, Final

from protocol.core.candidates import Candidates
from protocol.core.distances import Distances
from protocol.core.jobs import BlockKey, Job, JobClass, call_for
from protocol.core.running import RunningStates
from protocol.core.slots_in_use import SlotsInUse
from protocol.core.standings import Standings
from protocol.core.turnout import Turnout, invitations
from protocol.core.windows import Windows
from protocol.machines.context import Context
from protocol.machines.effects import Effect, Reach, Report
from protocol.machines.events import Announced
from protocol.machines.requester import auction
from protocol.machines.requester.auction import Auction, Decided, SoldSlot
from protocol.machines.table import count_illegal, step
from protocol.rules.pricing import Cap
from protocol.rules.selection import may_bid
from protocol.rules.standing import BROKEN, has_served
from protocol.values.bounded import keep_newest
from protocol.values.ids import NO_LEASE, CallId, JobId, LeaseId, PeerId
from protocol.values.limits import BIDS_MAX
from protocol.values.reasons import Failure
from protocol.wire.envelope import Signed
from protocol.wire.job import QUICK
from protocol.wire.messages import BidCommit, BidRefusal, Call

DECIDED_MAX: Final = 64
"""So many decided auctions keep their slots and bids."""
DEMANDS_REMEMBERED: Final = 256
"""For so many demands it is known how many slots bidders had left."""
CALLS_REMEMBERED: Final = 1_024
"""So many recent calls are known, to understand a hint of a provider that refused one."""


class Auctions:
    """Auctions by call, and the free slots of decided ones by class."""

    def __init__(
        self,
        candidates: Candidates,
        standings: Standings,
        connected: Collection[PeerId],
        illegal: dict[str, int],
    ) -> None:
        self.states: RunningStates[CallId, auction.State] = RunningStates()
        self._candidates = candidates
        self._standings = standings
        self._connected = connected
        self.distances = Distances()
        self._illegal = illegal
        self._classes: dict[CallId, JobClass] = {}
        """The classes of recent calls, also of those that are over."""
        self._open: dict[CallId, JobId] = {}
        """The auctions that take bids, with the job that each begins with."""
        self._free: dict[bytes, list[SoldSlot]] = {}
        """Sold slots that carry no job, by the key of their class."""
        self._in_use = SlotsInUse()
        self._supply: dict[BlockKey, int] = {}
        self._windows = Windows()
        self.turnout = Turnout()
        self._called = 0

    def __len__(self) -> int:
        """Return the number of auctions that take bids."""
        return len(self._open)

    def of_job(self, job_id: JobId) -> CallId | None:
        """Return the open auction that begins with a job; None if there is none."""
        return next((call_id for call_id, first in self._open.items() if first == job_id), None)

    def class_of(self, call_id: CallId) -> JobClass | None:
        """Return the class of a recent call."""
        return self._classes.get(call_id)

    def open(
        self, job: Job, job_class: JobClass, slots: int, cap: Cap, context: Context
    ) -> list[Effect]:
        """Call for bids for a class of jobs that begins with this one."""
        nodes, eligible = self._candidates.count(job.spec, job.avoid, context)
        answering = self._candidates.answering(job.spec, job.avoid, context)
        call = call_for(job_class, slots, cap.rate, self._called, context)
        call = self._windows.fit(call, job_class.block_key, context.now_ms)
        self._called += 1
        key = job_class.block_key
        known = key in self._supply
        lottery = self.turnout.lottery(key, len(answering), eligible, is_first=not known)
        call = replace(call, lottery=lottery, region=job.spec.terms.region)
        call = replace(call, invited=invitations(call, answering))
        signed = context.signer.sign(call)
        call_id = CallId(signed.content_id)
        self.turnout.note_call(key, call_id, call)
        allowed = tuple(peer for peer in answering if may_bid(call_id, call, peer))
        expected = allowed if len(allowed) <= BIDS_MAX else ()
        called = Auction(
            job.job_id, job.spec, call_id, call, signed.envelope, expected, job.avoid,
            job_class.is_doubted,
        )  # fmt: skip
        state, effects = auction.open_auction(called, context)
        self.states[call_id] = state
        self._open[call_id] = job.job_id
        self._classes[call_id] = job_class
        if len(self._classes) > CALLS_REMEMBERED:
            self._forget_class()
        missing = tuple(islice(self.beyond_reach(called, context), BIDS_MAX))
        told = Announced(call_id, job.attempt, nodes, eligible, cap.rate, cap.why)
        announced = Report(job.job_id, told)
        return [announced, *([Reach(missing)] if missing else []), *effects]

    def step(
        self, call_id: CallId, event: Any, context: Context
    ) -> tuple[Decided | auction.Lost | None, list[Effect]]:
        """Pass an input to an auction; return its state if it has just been decided or lost."""
        if call_id not in self.states:
            return None, []
        before = self.states[call_id]
        count_illegal(self._illegal, "auction", auction.ILLEGAL, before, event)
        state, effects = step(auction.TRANSITIONS, before, event, context)
        for peer in auction.unopened(before, event):
            self._standings.strike(peer, BROKEN, context.now_ms)
        for peer in auction.unanswered(before, event):
            self._standings.miss_answer(peer, context.now_ms)
        if not isinstance(state, auction.Lapsed | auction.Lost):
            self.states[call_id] = state
        elif isinstance(before, Decided):
            self._lapse(call_id)
        else:
            del self.states[call_id]
        if isinstance(before, Decided) or not isinstance(state, Decided | auction.Lost):
            return None, list(effects)
        self._close(state, context)
        return state, list(effects)

    def hear(
        self, call_id: CallId, event: Signed[Any], context: Context
    ) -> tuple[Decided | auction.Lost | None, list[Effect]]:
        """Pass a bidder's message to its auction; return as `step`."""
        state = self.states.get(call_id)
        in_time = state is not None and auction.in_time(state)
        self._note_turnout(call_id, event)
        if not isinstance(event.message, BidRefusal):
            self._windows.hear_late(call_id, context.now_ms)
        self._standings.hear_answer(event.signer, context.now_ms, in_time=in_time)
        return self.step(call_id, event, context)

    def _note_turnout(self, call_id: CallId, event: Signed[Any]) -> None:
        job_class = self._classes.get(call_id)
        # In Profile V a reveal is a bidder's second message.
        is_first = isinstance(event.message, BidCommit | BidRefusal)
        if job_class and (is_first or job_class.call.profile == QUICK):
            self.turnout.hear(job_class.block_key, call_id, event.signer)

    # --- slots ----------------------------------------------------------------------------

    def any_slots(self) -> bool:
        """Return whether any class has a slot for its next job, free or in use by a short one."""
        return bool(self._free) or self._in_use.any_open()

    def can_take(self, job_class: JobClass) -> bool:
        """Return whether a class has slots for its next job."""
        return bool(self._choose(job_class))

    def has_sold(self, job_class: JobClass, provider: PeerId) -> bool:
        """Return whether we use a slot of a provider for a class."""
        return any(
            slot.provider == provider and provider not in state.failed
            for call_id, state in self.states.items()
            if isinstance(state, Decided) and self._classes[call_id].key == job_class.key
            for slot in state.sold
        )

    def supply(self, job_class: JobClass) -> int:
        """Return how many slots bidders had left after the last auction for a demand."""
        return self._supply.get(job_class.block_key, 1)

    def take(self, job_class: JobClass, *, ahead: bool = False) -> list[SoldSlot]:
        """Take the cheapest free slot of a class, or for a gang all of them; none if they lack.

        `ahead`: take one on which a short job still runs, if none is free.
        """
        free = self._take(job_class, self._choose(job_class))
        return free or (self._take_ahead(job_class) if ahead else [])

    def take_another(self, job_class: JobClass, call_id: CallId) -> list[SoldSlot]:
        """Take one more free slot of the auction that sold a gang its slots; none if it lacks."""
        usable = [slot for slot in self._usable(job_class) if slot.call_id == call_id]
        return self._take(job_class, usable[:1])

    def begin_use(self, lease_id: LeaseId, slot: SoldSlot) -> None:
        """Note that a container runs on a slot."""
        if slot.call_id in self._classes:
            self._in_use.begin(self._classes[slot.call_id].key, lease_id, slot)

    def end_use(self, lease_id: LeaseId, slot: SoldSlot, usage_ms: int) -> bool:
        """Note that a lease no longer uses its slot; return whether a successor has it.

        `usage_ms` is how long its job took; 0 if it did not run to its end.
        """
        if slot.call_id not in self._classes:
            return False
        key = self._classes[slot.call_id].key
        if usage_ms:
            self._in_use.note_length(key, usage_ms)
        return self._in_use.end(key, lease_id)

    def give_back(self, slot: SoldSlot) -> bool:
        """Give up a slot that was taken ahead; return False if it is in use no more, and ours."""
        return self._in_use.give_back(slot)

    def decided(self, slot: SoldSlot) -> Decided:
        """Return the auction that sold a free slot."""
        decided = self.states[slot.call_id]
        assert isinstance(decided, Decided)
        return decided

    def update(self, decided: Decided) -> None:
        """Keep an auction that has counted an award."""
        self.states[decided.auction.call_id] = decided

    def release(self, slot: SoldSlot | None) -> None:
        """Let a sold slot carry another job, unless its auction has lapsed or was forgotten."""
        if slot is None or self.give_back(slot):
            return
        if isinstance(self.states.get(slot.call_id), Decided):
            self._add_free(replace(slot, binding=False, after=NO_LEASE))

    def _add_free(self, slot: SoldSlot) -> None:
        self._free.setdefault(self._classes[slot.call_id].key, []).append(slot)

    def replace(self, slot: SoldSlot, context: Context) -> int:
        """Sell another slot in place of one that its provider does not serve, if a bid is left.

        Return how many slots of the auction have failed.
        """
        decided = self.states.get(slot.call_id)
        if not isinstance(decided, Decided):
            return 1
        following, other = auction.replacement(decided, slot.provider, context)
        self.states[slot.call_id] = following
        if other is not None:
            self._add_free(other)
        return len(following.failed)

    def give_up_free(self, key: bytes) -> None:
        """Use the free slots of a class no more: another class needs the capacity."""
        self._free.pop(key, None)

    def beyond_reach(self, called: Auction, context: Context) -> Iterable[PeerId]:
        """Yield nodes that can serve a job, may bid, and are not connected."""
        start = int.from_bytes(called.call_id[:4])
        able = self._candidates.able(called.spec, called.avoid, start, context)
        return (
            peer for peer in able
            if peer not in self._connected
            and may_bid(called.call_id, called.call, peer)
        )  # fmt: skip

    def _close(self, state: Decided | auction.Lost, context: Context) -> None:
        """Note that an auction takes no more bids, and which slots it sold."""
        call_id = state.auction.call_id
        key = self._classes[call_id].block_key
        del self._open[call_id]
        self._note_supply(state)
        if isinstance(state, auction.Lost):
            if state.reason is Failure.EXHAUSTED:
                self._windows.widen(key, context.now_ms)
            elif state.reason is Failure.NO_BIDS:
                self._windows.lose(key, call_id)
            return
        self._windows.narrow(key, state.auction.call, context.now_ms)
        decided = [call_id for call_id, each in self.states.items() if isinstance(each, Decided)]
        if len(decided) > DECIDED_MAX:
            self._lapse(decided[0])
        for slot in state.sold:
            self._add_free(slot)

    def _lapse(self, call_id: CallId) -> None:
        """Forget a decided auction and its free slots."""
        del self.states[call_id]
        key = self._classes[call_id].key
        self._set_free(key, [slot for slot in self._free.get(key, ()) if slot.call_id != call_id])

    def _usable(self, job_class: JobClass) -> list[SoldSlot]:
        """Return the free slots of a class whose providers are not to be avoided.

        Doubted jobs take those of strangers only from auctions that looked for others first.
        """
        free = self._free.get(job_class.key, ())
        usable = [slot for slot in free if slot.provider not in job_class.avoid]
        if not job_class.is_doubted:
            return usable
        return [slot for slot in usable if self._is_trusted(slot)]

    def _is_trusted(self, slot: SoldSlot) -> bool:
        for_doubted = self._classes[slot.call_id].is_doubted
        return for_doubted or has_served(self._standings.of(slot.provider))

    def _choose(self, job_class: JobClass) -> list[SoldSlot]:
        """Return the free slots for the next job of a class; none if there are too few.

        Those of a gang are from one auction: slots of two may be the same capacity. They are apart
        or near as it wants.
        """
        usable = self._usable(job_class)
        if job_class.nodes == 1:
            return [min(usable, key=_rate_of)] if usable else []
        usable.sort(key=_rate_of)
        of_call: dict[CallId, list[SoldSlot]] = {}
        for slot in usable:
            of_call.setdefault(slot.call_id, []).append(slot)
        found = (self._together(slots, job_class) for slots in of_call.values())
        enough = [slots for slots in found if len(slots) == job_class.nodes]
        return min(enough, key=lambda slots: sum(map(_rate_of, slots)), default=[])

    def _together(self, slots: list[SoldSlot], job_class: JobClass) -> list[SoldSlot]:
        """Return the first slots that may carry the members of one gang together."""
        chosen: list[SoldSlot] = []
        for slot in slots:
            if len(chosen) < job_class.nodes and self._goes_with(slot, chosen, job_class.call):
                chosen.append(slot)
        return chosen

    def _goes_with(self, slot: SoldSlot, others: list[SoldSlot], call: Call) -> bool:
        """Return whether a slot is as far from others, and as near to them, as a call wants."""
        providers = (one.provider for one in others)
        is_apart = not call.spread or all(one.region != slot.region for one in others)
        return is_apart and not self.distances.are_far(
            slot.provider, providers, call.max_round_trip_us
        )

    def _take(self, job_class: JobClass, slots: list[SoldSlot]) -> list[SoldSlot]:
        left = [slot for slot in self._free.get(job_class.key, ()) if slot not in slots]
        self._set_free(job_class.key, left)
        return slots

    def _take_ahead(self, job_class: JobClass) -> list[SoldSlot]:
        """Take the cheapest slot on which a short job of a class still runs.

        The slots of a gang are free at the same time, or not at all.
        """
        if job_class.nodes > 1:
            return []
        while (slot := self._in_use.take(job_class.key, job_class.avoid)) is not None:
            if isinstance(self.states.get(slot.call_id), Decided):
                return [slot]
            self._in_use.give_back(slot)  # Its auction has lapsed.
        return []

    def _set_free(self, key: bytes, slots: list[SoldSlot]) -> None:
        if slots:
            self._free[key] = slots
        else:
            self._free.pop(key, None)

    def _note_supply(self, state: Decided | auction.Lost) -> None:
        key = self._classes[state.auction.call_id].block_key
        self._supply.pop(key, None)
        left = auction.supply_of(state) - len(state.sold) if isinstance(state, Decided) else 1
        self._supply[key] = left
        keep_newest(self._supply, DEMANDS_REMEMBERED)

    def _forget_class(self) -> None:
        """Forget the class of the oldest call that is over."""
        over = next((c for c in self._classes if c not in self.states), None)
        if over is not None:
            del self._classes[over]


def _rate_of(slot: SoldSlot) -> int:
    return slot.price.rate
