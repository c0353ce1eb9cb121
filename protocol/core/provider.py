"""The provider half of the core: the calls that it answers and the leases that it provides.

Spec: specs/core.md#provider. Free capacity is computed from the leases, not counted separately.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from protocol.core.audits import Audits
from protocol.core.bid_history import SILENT, BidHistory
from protocol.core.call_limits import CallLimits
from protocol.core.candidates import Candidates
from protocol.core.capacity_hints import CapacityHints
from protocol.core.refusals import Refusals
from protocol.core.running import RunningStates, earliest
from protocol.core.standings import Standings
from protocol.core.taken_awards import TakenAwards
from protocol.core.unpaid import Unpaid
from protocol.machines.context import NO_CAPACITY, Context
from protocol.machines.effects import Accuse, Effect, Learn, Send, Settle
from protocol.machines.inputs import (
    DeadlineReached,
    DevicesWithheld,
    PauseDenied,
    PolicyChanged,
    SlotFreed,
    StateHeard,
    StopRequested,
)
from protocol.machines.provider import bidding, lease
from protocol.machines.table import count_illegal, step
from protocol.rules.capacity import Capacity, Reservation, left_of, reserve
from protocol.rules.owner_rules import objection
from protocol.rules.selection import may_bid
from protocol.rules.standing import is_refused
from protocol.values.ids import NO_LEASE, CallId, Digest, LeaseId, PeerId, lease_id_of
from protocol.values.limits import BIDDINGS_MAX
from protocol.values.reasons import Decline, Refusal, Release
from protocol.wire.envelope import Signed
from protocol.wire.job import Resources
from protocol.wire.messages import (
    GONE,
    Award,
    AwardDecline,
    Call,
    Cancel,
    CommitSet,
    Deploy,
    LeaseConfirm,
    LeaseEntry,
    LeaseQuery,
    LeaseRelease,
    LeaseStates,
    Outcome,
    RoundTripQuery,
    SetCheck,
    Start,
)


class Provider:
    """The open biddings by call, and the leases by id."""

    def __init__(
        self, candidates: Candidates, standings: Standings, sources: Mapping[PeerId, str],
        illegal: dict[str, int], refusals_max: int = 0,
    ) -> None:  # fmt: skip
        """Take what is known of peers, the source of each connected one, and illegal inputs."""
        self.biddings: RunningStates[CallId, bidding.State] = RunningStates()
        self.leases: RunningStates[LeaseId, lease.State] = RunningStates()
        self._standings = standings
        self.unpaid = Unpaid(standings, sources)
        self.bids = BidHistory()
        self.refusals = Refusals(refusals_max)
        self._audits = Audits(candidates, sources.keys())
        self._illegal = illegal
        self._leases_of: dict[PeerId, dict[LeaseId, None]] = {}
        """The leases of each requester."""
        self._paused: dict[LeaseId, None] = {}
        self._left: tuple[Capacity, Capacity] | None = None
        """The total capacity and the free part of it, until a lease changes."""
        self._successors: dict[LeaseId, LeaseId] = {}
        """The lease that takes over the capacity of another one, by the other."""
        self._standing_by: dict[CallId, None] = {}
        """Auctions in which our bid no longer binds us, the oldest first."""
        self._awards = TakenAwards()
        self._recovered_ms = 0
        """When this node has started: it does not know to which earlier calls it had answered."""
        self._hints = CapacityHints()
        self._calls = CallLimits()

    def left(self, total: Capacity) -> Capacity:
        """Return the capacity that no lease has reserved. An open bid reserves nothing."""
        if self._left is None or self._left[0] is not total:
            self._left = total, left_of(total, self._leased())
        return self._left[1]

    def jobs(self) -> int:
        """Return the number of leases whose job has not ended."""
        over = lease.Settling | lease.Ended
        return sum(not isinstance(state, over) for state in self.leases.values())

    def next_deadline_ms(self) -> int | None:
        """Return the earliest deadline; None if there is none."""
        return earliest(self.biddings.next_deadline_ms(), self.leases.next_deadline_ms())

    def has_lease_for(self, peer: PeerId) -> bool:
        """Return whether a requester has a lease with this node."""
        return peer in self._leases_of

    def recover(self, states: Iterable[lease.State], context: Context) -> list[Effect]:
        """Continue the saved leases."""
        self._recovered_ms = context.now_ms
        effects: list[Effect] = []
        for state in states:
            resumed, following = lease.resume(state, context)
            self.unpaid.note(state, resumed, context, blameless=True)
            self._set(resumed)
            effects += following
        return effects

    def handle(self, event: Any, context: Context) -> list[Effect]:
        """Process a local input: a deadline, or an event of an execution."""
        effects: list[Effect] = []
        if isinstance(event, DeadlineReached):
            for call_id in self.biddings.take_due(context.now_ms):
                effects += self._step_bidding(call_id, event, context)
            for lease_id in self.leases.take_due(context.now_ms):
                effects += self._step_lease(lease_id, event, context)
            effects += self._bound_paused(context)
        elif isinstance(event, PolicyChanged | DevicesWithheld):
            if not context.policy.providing:
                self._withdraw_bids()
        elif isinstance(event, StopRequested):
            self._withdraw_bids()
            for lease_id in reversed(list(self.leases)):  # Successors first: none takes over now.
                effects += self._step_lease(lease_id, event, context)
        else:
            effects += self._step_lease(event.lease_id, event, context)
        return effects

    def _withdraw_bids(self) -> None:
        """Forget all open bids: a later award finds none and is declined."""
        for call_id in list(self.biddings):
            self._forget_bid(call_id, "this node took its bid back: it takes no new jobs")

    def hear(self, event: Signed[Any], context: Context) -> list[Effect]:
        """Process a message of a requester."""
        match event.message:
            case Call():
                return self._answer(event, context)
            case CommitSet(call_id) | SetCheck(call_id) | Outcome(call_id) | Cancel(call_id):
                self.bids.hear(event, context.signer.peer_id)
                return self._step_bidding(call_id, event, context)
            case Award():
                return self._take_award(event, context)
            case LeaseQuery(entries):
                return self._answer_query(entries, event.signer, context)
        lease_id: LeaseId = event.message.lease_id
        state = self.leases.get(lease_id)
        if state is not None and state.hold.requester == event.signer:
            return self._step_lease(lease_id, event, context)
        if state is None and isinstance(
            event.message, RoundTripQuery | LeaseConfirm | Deploy | Start
        ):
            # The hold has expired: the requester must not wait.
            # Sent once and not stored: strangers must not make this node write.
            gone = context.signer.sign(
                LeaseRelease(lease_id, Release.EXPIRED, "the hold has expired")
            )
            return [Send(event.signer, gone.envelope, 0)]
        if state is None and isinstance(event.message, LeaseRelease):
            self._fence(lease_id, event.signer)
        return []

    def _answer_query(
        self, entries: tuple[LeaseEntry, ...], requester: PeerId, context: Context
    ) -> list[Effect]:
        """Say how we see the leases that a requester asks about, and repeat what it has missed.

        Sent once, even to strangers.
        """
        effects: list[Effect] = []
        told = []
        for lease_id, state, vouchers in ((e.lease_id, e.state, e.vouchers) for e in entries):
            if lease_id not in self._leases_of.get(requester, {}):
                told.append(LeaseEntry(lease_id, GONE))
                continue
            told.append(lease.entry_of(self.leases[lease_id]))
            effects += self._step_lease(lease_id, StateHeard(lease_id, state, vouchers), context)
        states = context.signer.sign(LeaseStates(tuple(told)))
        return [*effects, Send(requester, states.envelope, 0)]

    def _answer(self, event: Signed[Call], context: Context) -> list[Effect]:
        call_id, own = CallId(event.content_id), context.signer.peer_id
        full = len(self.biddings) - len(self._standing_by) >= BIDDINGS_MAX
        if event.signer == own or full or call_id in self.biddings or call_id in self._awards:
            return []
        if event.message.issued_ms < self._recovered_ms:
            return []
        if not may_bid(call_id, event.message, own):
            return []
        if not self.refusals.does_fit(event, context):
            return []
        if not self._calls.admit(event.signer, context):
            self.refusals.note(event.signer, "calls", "it calls too often", context)
            return []
        free, denied = self._free(context), self._denial(event.signer, event.message.image, context)
        denied = denied or bidding.unreachable(event.message, context)
        free_ms = lease.shortest_left_ms(self.leases.values(), context)
        state, effects = (
            bidding.refuse(event, denied, context) if denied
            else bidding.answer_call(event, free, free_ms, context)
        )  # fmt: skip
        over = isinstance(state, bidding.Over)
        busy = over and reserve(free, event.message.resources) is None
        reason = denied or (Refusal.BUSY if busy else Refusal.PRICE)
        self.bids.answer(event, state, reason, context)
        if over:
            self.refusals.note_answer(event, reason, context)
        else:
            self.biddings[call_id] = state
        if busy:
            self._hints.refuse(event.signer, event.message.resources, call_id)
        # The answer needs an address, and the caller may not be connected.
        told = event.message.addresses
        return [*([Learn(event.signer, told)] if told else []), *effects]

    def _denial(self, requester: PeerId, image: Digest, context: Context) -> Refusal | None:
        """Return why a requester gets neither bid nor lease; None if it may have them."""
        if objection(context.policy.rules, requester, image):
            return Refusal.POLICY
        if is_refused(context.standing_of(requester), context.now_ms):
            return Refusal.CONDUCT
        return self.unpaid.refusal(requester, context)

    def _free(self, context: Context) -> Capacity:
        """Return the capacity for one more lease: none if `jobs_max` leases exist."""
        full = len(self._leased()) >= context.policy.jobs_max
        return NO_CAPACITY if full else self.left(context.policy.capacity)

    def _leased(self) -> list[Reservation]:
        held = [lease.reserved(state) for state in self.leases.values()]
        return [item for item in held if item is not None]

    def _take_award(self, event: Signed[Award], context: Context) -> list[Effect]:
        award = event.message
        place = (award.slot, award.attempt, award.offer)
        lease_id = lease_id_of(award.call_id, *place, context.signer.peer_id)
        if lease_id in self.leases:
            return []
        state = self.biddings.get(award.call_id)
        revealed = bidding.awardable(state, event) if state else None
        if self._awards.is_fenced(lease_id, event.signer):
            return []
        if revealed is None or context.now_ms >= revealed.deadline_ms:
            return [_decline(lease_id, event, Decline.POLICY, context)]
        if self._awards.has(award):  # Its lease has ended.
            return [_decline(lease_id, event, Decline.POLICY, context)]
        opened, accused = bidding.check_award(revealed, event, context)
        if opened is None:
            self._note_accused(accused)
            if accused:
                self._forget_bid(award.call_id)
            return [*accused, _decline(lease_id, event, Decline.EVIDENCE, context)]
        self.biddings[award.call_id] = opened
        bid = revealed.bidding
        # Several bids may be open for the same capacity: the first award gets it.
        wanted = bid.call.resources
        before = self._predecessor(event, wanted)
        reservation = before.reservation if before else reserve(self._free(context), wanted)
        if reservation is None or self._denial(event.signer, bid.call.image, context):
            return [_decline(lease_id, event, Decline.BUSY, context)]
        self.bids.award(award.call_id, award.rate)
        self._awards.note(award, self.biddings)
        self._calls.refund(event.signer, context)
        hold = lease.Hold(
            lease_id, award.call_id, event.signer, award.attempt, award.rate,
            bid.call.usage_ms_max, wanted, reservation,
            before.lease_id if before else NO_LEASE,
        )  # fmt: skip
        held, effects = lease.hold_award(hold, event.content_id, bid.call.hold_ms, context)
        self.unpaid.note(held, held, context, blameless=True)
        self._set(held)
        return list(effects)

    def _predecessor(self, event: Signed[Award], wanted: Resources) -> lease.Hold | None:
        """Return the lease whose capacity an award takes over; None if it needs capacity now.

        Only leases of the same requester and size, and one award for each.
        """
        state, after = self.leases.get(event.message.after), event.message.after
        if state is None or lease.reserved(state) is None or after in self._successors:
            return None
        hold = state.hold
        return hold if (hold.requester, hold.resources) == (event.signer, wanted) else None

    def _fence(self, lease_id: LeaseId, requester: PeerId) -> None:
        """Remember a release by a requester whose award may still arrive."""
        bids = [state for state in self.biddings.values() if not isinstance(state, bidding.Over)]
        if any(state.bidding.requester == requester for state in bids):
            self._awards.fence(lease_id, requester)

    def _step_bidding(self, call_id: CallId, event: Any, context: Context) -> list[Effect]:
        if call_id not in self.biddings:
            return []
        before = self.biddings[call_id]
        count_illegal(self._illegal, "bidding", bidding.ILLEGAL, before, event)
        state, effects = step(bidding.TRANSITIONS, before, event, context)
        self._note_accused(effects)
        if (requester := bidding.aborted_by(before, event)) is not None:
            self._standings.note_abort(requester, context.now_ms)
        if isinstance(state, bidding.Over):
            self._forget_bid(call_id)
        else:
            self.biddings[call_id] = state
        if isinstance(before, bidding.Committed) and isinstance(state, bidding.Revealed):
            return [*effects, *self._audits.begin(state.bid, context)]
        if isinstance(state, bidding.StandingBy):
            self._standing_by[call_id] = None
            if len(self._standing_by) > BIDDINGS_MAX:
                self._forget_bid(next(iter(self._standing_by)))
        return list(effects)

    def _note_accused(self, effects: Iterable[Effect]) -> None:
        """Refuse the requesters that are accused."""
        for effect in effects:
            if isinstance(effect, Accuse):
                self._standings.bar(effect.finding.requester, effect.finding.called_ms)
                self.bids.accuse(effect.finding)

    def _forget_bid(self, call_id: CallId, why: str = SILENT) -> None:
        del self.biddings[call_id]
        self.bids.forget(call_id, why)
        self._standing_by.pop(call_id, None)

    def _bound_paused(self, context: Context) -> list[Effect]:
        """End the longest-paused containers while the paused ones hold too much memory."""
        effects: list[Effect] = []
        paused = [self.leases[lease_id] for lease_id in self._paused]
        for lease_id in lease.beyond_memory(paused, context.policy.pause_memory_mib):
            effects += self._step_lease(lease_id, PauseDenied(lease_id), context)
        return effects

    def _step_lease(self, lease_id: LeaseId, event: Any, context: Context) -> list[Effect]:
        if lease_id not in self.leases:
            return []
        before = self.leases[lease_id]
        count_illegal(self._illegal, "provider-lease", lease.ILLEGAL, before, event)
        state, effects = step(lease.TRANSITIONS, before, event, context)
        paid = any(isinstance(effect, Settle) and effect.countersign for effect in effects)
        blameless = paid or isinstance(event, StopRequested)  # Our owner stopped the node.
        self.unpaid.note(before, state, context, blameless=blameless)
        if isinstance(state, lease.Ended):
            self._forget(lease_id)
        else:
            self._set(state)
        if lease.reserved(state) is None and lease.reserved(before):
            return [*effects, *self._free_slot(lease_id, context)]
        return list(effects)

    def _free_slot(self, lease_id: LeaseId, context: Context) -> list[Effect]:
        """Let the successor of a lease take over its capacity, or tell others that it is free."""
        following = self._successors.pop(lease_id, None)
        if following is not None:
            return self._step_lease(following, SlotFreed(following), context)
        return self._hints.tell(self._free(context), context)

    def _set(self, state: lease.State) -> None:
        lease_id, requester = state.hold.lease_id, state.hold.requester
        self._left = None
        self.leases[lease_id] = state
        self._leases_of.setdefault(requester, {})[lease_id] = None
        if state.hold.after:
            self._successors[state.hold.after] = lease_id
        if isinstance(state, lease.Serving) and state.is_paused:
            self._paused[lease_id] = None
        else:
            self._paused.pop(lease_id, None)

    def _forget(self, lease_id: LeaseId) -> None:
        hold = self.leases[lease_id].hold
        requester = hold.requester
        if hold.after:
            self._successors.pop(hold.after, None)
        self._left = None
        del self.leases[lease_id], self._leases_of[requester][lease_id]
        self._paused.pop(lease_id, None)
        if not self._leases_of[requester]:
            del self._leases_of[requester]


def _decline(lease_id: LeaseId, event: Signed[Award], reason: Decline, context: Context) -> Effect:
    said = context.signer.sign(AwardDecline(lease_id, event.content_id, reason))
    return Send(event.signer, said.envelope, 0)
