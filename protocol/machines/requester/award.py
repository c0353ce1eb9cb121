"""The requester's side of one award: from the award of a slot to an active lease.

Spec: specs/auction.md#awards. An award gives one slot one attempt of one job. Nothing can start
before the lease is active, so an award that fails costs nothing: its provider is fenced and the job
gets another slot. The awards of a gang are confirmed together, once all are accepted and, if their
distance matters, the round trips between them are measured.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from protocol.machines.context import Context
from protocol.machines.effects import Effect, Report, Save, Send
from protocol.machines.events import Awarded
from protocol.machines.inputs import (
    DeadlineReached,
    JobCancelled,
    MembersFar,
    MembersHeld,
    MembersNear,
)
from protocol.machines.requester.auction.states import Decided, SoldSlot
from protocol.machines.table import Groups, Transitions, no_later, pairs
from protocol.rules.metering import amount_of
from protocol.rules.standing import BROKEN, DECLINED
from protocol.values.ids import CallId, ContentId, JobId, LeaseId, PeerId, lease_id_of
from protocol.values.limits import (
    ACCEPT_MS,
    ACTIVE_MS,
    GANG_HOLD_MS,
    MEASURE_MS,
    MEASURING_MS,
    MESSAGE_MS,
)
from protocol.values.reasons import Release
from protocol.wire.envelope import Signed
from protocol.wire.messages import (
    Award,
    AwardAccept,
    AwardDecline,
    LeaseActive,
    LeaseConfirm,
    LeaseRelease,
    RoundTripQuery,
    RoundTrips,
)


@dataclass(frozen=True, slots=True)
class Placement:
    """What stays the same from the award to the lease: which job runs where, at which price."""

    job_id: JobId
    attempt: int
    call_id: CallId
    provider: PeerId
    lease_id: LeaseId
    award: ContentId
    rate: int
    usage_ms_max: int
    voucher_ms: int
    """The usage that each payment step covers, as the provider's bid states."""
    binding: bool = True
    """Whether the provider has promised to take the award."""
    answer_ms: int = 0
    """How long the auction waited for bids: in a slow network answers take longer than usual."""
    gang: bool = False
    """Whether the job is a member of a gang. Older snapshots lack this and the next."""
    members: tuple[PeerId, ...] = ()
    """The providers of a gang by rank, once all have accepted."""
    max_round_trip_us: int = 0
    """The longest round trip between the members of a gang; 0: any. Older snapshots lack it."""

    @property
    def others(self) -> tuple[PeerId, ...]:
        """The providers of the other members, each once."""
        return tuple(dict.fromkeys(peer for peer in self.members if peer != self.provider))


@dataclass(frozen=True, slots=True)
class Awarding:
    """The provider has our award, and has not answered yet."""

    placement: Placement
    deadline_ms: int


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider holds its slot; other members of the gang have none yet."""

    placement: Placement
    deadline_ms: int
    accept: ContentId


@dataclass(frozen=True, slots=True)
class Measuring:
    """The provider holds its slot, and measures the round trips to the others of the gang."""

    placement: Placement
    deadline_ms: int
    accept: ContentId
    round_trips_us: tuple[int, ...] = ()
    """Those to `placement.others`, in microseconds; empty before its answer."""


@dataclass(frozen=True, slots=True)
class Confirming:
    """The provider accepted and has our confirmation; the lease is not active yet."""

    placement: Placement
    deadline_ms: int
    contract: ContentId


@dataclass(frozen=True, slots=True)
class Won:
    """The provider holds an active lease for the job."""

    placement: Placement
    contract: ContentId


@dataclass(frozen=True, slots=True)
class Missed:
    """The award ended without a lease."""

    placement: Placement
    fault: int = 0
    """What it counts against the provider, in thousandths of a strike."""
    is_final: bool = False
    """Whether the other members of the gang no longer wait for another slot."""
    far: str = ""
    """Which members of the gang are too far from each other; empty if that is not why."""


Open = Awarding | Accepted | Measuring | Confirming
State = Awarding | Accepted | Measuring | Confirming | Won | Missed
Step = tuple[State, tuple[Effect, ...]]


def begin(
    decided: Decided,
    slot: SoldSlot,
    job: tuple[JobId, int],
    context: Context,
    *,
    gang: bool = False,
) -> tuple[Decided, Awarding, tuple[Effect, ...]]:
    """Award a slot to an attempt of a job. Return the auction, which counts its awards."""
    job_id, attempt = job
    call, place = decided.auction.call, (decided.awards, attempt, slot.passed)
    award = context.signer.sign(
        Award(slot.call_id, decided.outcome, *place, slot.price.rate, slot.shift,
              slot.price.evidence, slot.bid, slot.unit, slot.after)
    )  # fmt: skip
    lease_id = lease_id_of(slot.call_id, *place, slot.provider)
    placement = Placement(
        job_id, attempt, slot.call_id, slot.provider, lease_id, award.content_id,
        slot.price.rate, call.usage_ms_max, slot.voucher_ms, slot.binding, call.commit_ms, gang,
        max_round_trip_us=call.max_round_trip_us,
    )  # fmt: skip
    state = Awarding(placement, context.now_ms + max(ACCEPT_MS, placement.answer_ms))
    told = Awarded(
        slot.provider, lease_id, slot.price.rate, slot.ask, slot.runner_up, slot.start_ms
    )
    return replace(decided, awards=decided.awards + 1), state, (
        _save(state),
        Report(job_id, told),
        Send(slot.provider, award.envelope, state.deadline_ms),
    )  # fmt: skip


def take_accept(state: Awarding, event: Signed[AwardAccept], context: Context) -> Step:
    """Confirm the contract, or for a gang wait until all its slots are held."""
    placement = state.placement
    if (event.signer, event.message.award) != (placement.provider, placement.award):
        return state, ()
    if not placement.gang:
        return _confirm(placement, event.content_id, context)
    held = Accepted(placement, context.now_ms + GANG_HOLD_MS, event.content_id)
    return held, (_save(held),)


def join(state: Accepted, event: MembersHeld, context: Context) -> Step:
    """Confirm the contract of a member: the providers of all others hold their slots too.

    If their distance matters, ask the provider to measure it first.
    """
    placement = replace(state.placement, members=event.providers)
    if not placement.max_round_trip_us or not placement.others:
        return _confirm(placement, state.accept, context)
    following = Measuring(placement, context.now_ms + MEASURE_MS + ACCEPT_MS, state.accept)
    query = context.signer.sign(RoundTripQuery(placement.lease_id, placement.others))
    send = Send(placement.provider, query.envelope, following.deadline_ms)
    return following, (_save(following), send)


def take_round_trips(state: Measuring, event: Signed[RoundTrips], context: Context) -> Step:
    """Store what a member has measured. It waits a little longer than those that are silent."""
    placement, measured = state.placement, event.message.round_trips_us
    is_answer = event.signer == placement.provider and len(measured) == len(placement.others)
    if state.round_trips_us or not is_answer:
        return state, ()
    deadline_ms = state.deadline_ms + ACCEPT_MS
    following = replace(state, round_trips_us=measured, deadline_ms=deadline_ms)
    return following, (_save(following),)


def confirm(state: Measuring, event: MembersNear, context: Context) -> Step:
    """Confirm the contract of a member: all of the gang are near each other."""
    return _confirm(state.placement, state.accept, context)


def part(state: Measuring, event: MembersFar, context: Context) -> Step:
    """Release a provider: two members of the gang are too far from each other."""
    missed = Missed(state.placement, is_final=True, far=event.why)
    return _miss(missed, _fence(state, Release.FENCED, context))


def _confirm(placement: Placement, accept: ContentId, context: Context) -> Step:
    amount_max = amount_of(placement.rate, placement.usage_ms_max)
    confirmed = context.signer.sign(LeaseConfirm(placement.lease_id, accept, amount_max))
    deadline_ms = context.now_ms + max(ACTIVE_MS, placement.answer_ms)
    following = Confirming(placement, deadline_ms, confirmed.content_id)
    send = Send(placement.provider, confirmed.envelope, following.deadline_ms)
    return following, (_save(following), send)


def take_decline(state: Awarding, event: Signed[AwardDecline], context: Context) -> Step:
    """End the award: the provider declined."""
    placement = state.placement
    if (event.signer, event.message.award) != (placement.provider, placement.award):
        return state, ()
    return _miss(_declined(placement))


def pass_over(state: Awarding | Confirming, event: DeadlineReached, context: Context) -> Step:
    """Fence a provider that fell silent."""
    missed = Missed(state.placement, BROKEN, bool(state.placement.members))
    return _miss(missed, _fence(state, Release.FENCED, context))


def give_up_measuring(state: Measuring, event: DeadlineReached, context: Context) -> Step:
    """Release a provider: it, or another member of the gang, did not say what it measured."""
    missed = Missed(state.placement, 0 if state.round_trips_us else BROKEN, is_final=True)
    return _miss(missed, _fence(state, Release.FENCED, context))


def give_back(state: Accepted, event: DeadlineReached, context: Context) -> Step:
    """Release a provider that held its slot for a gang which found no other slots."""
    missed = Missed(state.placement, is_final=True)
    return _miss(missed, _fence(state, Release.FENCED, context))


def win(state: Confirming, event: Signed[LeaseActive], context: Context) -> Step:
    """End the award: the lease is active."""
    if (event.signer, event.message.contract) != (state.placement.provider, state.contract):
        return state, ()
    won = Won(state.placement, state.contract)
    return won, (_save(won),)


def take_release(state: Open, event: Signed[LeaseRelease], context: Context) -> Step:
    """End the award: the provider gave the lease back, or its hold has expired."""
    if event.signer != state.placement.provider:
        return state, ()
    if isinstance(state, Accepted | Measuring) and event.message.reason == Release.EXPIRED:
        # It held its slot as long as it had to.
        return _miss(Missed(state.placement, is_final=bool(state.placement.members)))
    return _miss(_declined(state.placement))


def cancel(state: Open, event: JobCancelled, context: Context) -> Step:
    """Release the provider: our user cancelled the job, or the gang cannot be complete."""
    return _miss(Missed(state.placement), _fence(state, event.reason, context))


TRANSITIONS: Final[Transitions] = {
    (Awarding, AwardAccept): take_accept,
    (Awarding, AwardDecline): take_decline,
    (Awarding, LeaseRelease): take_release,
    (Awarding, DeadlineReached): pass_over,
    (Awarding, JobCancelled): cancel,
    (Accepted, MembersHeld): join,
    (Accepted, LeaseRelease): take_release,
    (Accepted, DeadlineReached): give_back,
    (Accepted, JobCancelled): cancel,
    (Measuring, RoundTrips): take_round_trips,
    (Measuring, MembersNear): confirm,
    (Measuring, MembersFar): part,
    (Measuring, LeaseRelease): take_release,
    (Measuring, DeadlineReached): give_up_measuring,
    (Measuring, JobCancelled): cancel,
    (Confirming, LeaseActive): win,
    (Confirming, LeaseRelease): take_release,
    (Confirming, DeadlineReached): pass_over,
    (Confirming, JobCancelled): cancel,
}
INPUTS: Final = (
    AwardAccept, AwardDecline, LeaseActive, LeaseRelease, MembersHeld, RoundTrips, MembersNear,
    MembersFar, DeadlineReached, JobCancelled,
)  # fmt: skip
IGNORED: Final[Groups] = {
    "repeated: the award has moved on": (
        pairs({Accepted, Measuring, Confirming}, {AwardAccept}) | pairs({Confirming}, {RoundTrips})
    ),
    "the provider gave its lease back, and then had the award again: its release comes too": (
        pairs({Accepted, Measuring, Confirming}, {AwardDecline})
    ),
    "the award has ended": pairs({Won, Missed}, INPUTS),
}
ILLEGAL: Final[Groups] = {
    "no lease is active before it is confirmed": (
        pairs({Awarding, Accepted, Measuring}, {LeaseActive})
    ),
    "only accepted awards of a gang are complete": (
        pairs({Awarding, Measuring, Confirming}, {MembersHeld})
    ),
    "nobody measures before all slots are held": pairs({Awarding, Accepted}, {RoundTrips}),
    "only measured members are near or far": (
        pairs({Awarding, Accepted, Confirming}, {MembersNear, MembersFar})
    ),
}


LONGEST_MS: Final[Mapping[type, int]] = {
    Awarding: ACCEPT_MS, Accepted: GANG_HOLD_MS, Measuring: MEASURING_MS,
    Confirming: ACTIVE_MS,
}  # fmt: skip
"""The longest time that a state waits."""


def resume(state: Open, context: Context) -> State:
    """Continue an award after a restart; its messages are in the outbox."""
    longest_ms = max(LONGEST_MS[type(state)], state.placement.answer_ms)
    following: State = no_later(state, longest_ms, context)
    return following


def _declined(placement: Placement) -> Missed:
    fault = DECLINED if placement.binding else 0
    return Missed(placement, fault, bool(placement.members))


def _fence(state: Open, reason: Release, context: Context) -> Send:
    """Return the message that forbids the provider to start anything."""
    release = context.signer.sign(LeaseRelease(state.placement.lease_id, reason))
    return Send(state.placement.provider, release.envelope, context.now_ms + MESSAGE_MS)


def _miss(missed: Missed, *fences: Effect) -> Step:
    return missed, (_save(missed), *fences)


def _save(state: State) -> Save:
    ended = isinstance(state, Won | Missed)
    return Save("award", state.placement.lease_id, None if ended else state)
