"""The provider's side of one lease: from the award to the countersigned receipt.

Spec: specs/lease.md#provider. Capacity is reserved from the award on.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from protocol.machines.context import Context
from protocol.machines.effects import (
    Drop,
    Kill,
    MeasureRoundTrips,
    Prepare,
    Send,
)
from protocol.machines.inputs import (
    ContainerExited,
    ContainerFailed,
    DeadlineReached,
    FetchProgressed,
    Prepared,
    PrepareFailed,
    RoundTripsMeasured,
    StopRequested,
)
from protocol.machines.provider.lease.billing import bill, promised, settle_of
from protocol.machines.provider.lease.checkpoints import due_again
from protocol.machines.provider.lease.ending import end, release, release_stopping, save
from protocol.machines.provider.lease.running import (
    launch,
)
from protocol.machines.provider.lease.states import (
    Active,
    Ended,
    Held,
    Hold,
    Leaving,
    Preparing,
    Serving,
    Settling,
    State,
    Step,
    Stopping,
    Unstarted,
    Waiting,
)
from protocol.machines.table import NOTHING, no_later
from protocol.rules.metering import amount_of
from protocol.rules.owner_rules import image_objection
from protocol.values.ids import ContentId
from protocol.values.limits import (
    DEPLOY_WAIT_MS,
    GANG_WAIT_MS,
    HEARTBEAT_MS,
    HELD_MS,
    MEASURE_MS,
    MEASURING_MS,
    PREPARE_MS,
    RETAIN_MS,
    SETTLEMENT_MS,
    STALL_MS,
    START_WAIT_MS,
    STOP_MS,
)
from protocol.values.reasons import Release
from protocol.wire.envelope import Signed
from protocol.wire.job import faults_of_workload as faults
from protocol.wire.messages import (
    PREPARING,
    AwardAccept,
    Deploy,
    Heartbeat,
    LeaseActive,
    LeaseConfirm,
    LeaseRelease,
    Ready,
    Receipt,
    Released,
    RoundTripQuery,
    RoundTrips,
    Voucher,
)


def hold_award(hold: Hold, award: ContentId, hold_ms: int, context: Context) -> Step:
    """Reserve the capacity and accept the award."""
    accept = context.signer.sign(AwardAccept(hold.lease_id, award))
    state = Held(hold, context.now_ms + min(hold_ms, HELD_MS), accept.content_id)
    return state, (save(state), Send(hold.requester, accept.envelope, state.deadline_ms))


def measure(state: Held, event: Signed[RoundTripQuery], context: Context) -> Step:
    """Hold the capacity a little longer, once, and measure how far the others of the gang are."""
    if state.others:
        return state, NOTHING
    asked = replace(state, others=event.message.others, deadline_ms=context.now_ms + MEASURING_MS)
    return asked, (save(asked), _measurement(asked, context))


def _measurement(state: Held, context: Context) -> MeasureRoundTrips:
    return MeasureRoundTrips(state.hold.lease_id, state.others, context.now_ms + MEASURE_MS)


def say_measured(state: Held, event: RoundTripsMeasured, context: Context) -> Step:
    """Tell the requester how far the others of the gang are."""
    hold = state.hold
    said = context.signer.sign(RoundTrips(hold.lease_id, event.round_trips_us))
    return state, (Send(hold.requester, said.envelope, state.deadline_ms),)


def activate(state: Held, event: Signed[LeaseConfirm], context: Context) -> Step:
    """Accept the contract if its amount follows from call and award."""
    if event.message.accept != state.accept:
        return state, NOTHING
    hold = state.hold
    if event.message.amount_max != amount_of(hold.rate, hold.usage_ms_max):
        why = "the confirmed amount does not match the award and the call"
        return release(hold, Release.CONTRACT, why, context)
    following = Active(hold, context.now_ms + DEPLOY_WAIT_MS, event.content_id)
    active = context.signer.sign(LeaseActive(hold.lease_id, event.content_id))
    return following, (
        save(following),
        Send(hold.requester, active.envelope, following.deadline_ms),
    )


def prepare(state: Active, event: Signed[Deploy], context: Context) -> Step:
    """Fetch image and inputs of a job that does not exceed the contract."""
    hold, workload = state.hold, event.message.workload
    beyond = (
        workload.resources != hold.resources
        or workload.timeout_ms > hold.usage_ms_max
        or bool(faults(workload))
    )
    if beyond:
        return release(hold, Release.CONTRACT, "the job does not match the call", context)
    if image_objection(context.policy.rules, workload.image):
        why = "the provider's owner does not run this image"
        return release(hold, Release.PREPARE_FAILED, why, context)
    following = Preparing(
        hold, context.now_ms + HEARTBEAT_MS, state.contract, workload,
        context.now_ms + PREPARE_MS, 0, fetched_ms=context.now_ms,
    )  # fmt: skip
    return following, (save(following), Prepare(hold.lease_id, hold.requester, workload))


def note_progress(state: Preparing, event: FetchProgressed, context: Context) -> Step:
    """Record the progress of the fetch for the next heartbeat."""
    following = replace(state, fetched=event.fetched, total=event.total, fetched_ms=context.now_ms)
    return following, NOTHING


def beat_preparing(state: Preparing, event: DeadlineReached, context: Context) -> Step:
    """Send a heartbeat while bytes arrive and the time limit is not reached."""
    hold = state.hold
    if context.now_ms >= state.until_ms:
        return release(hold, Release.PREPARE_FAILED, "the fetch took too long", context)
    if not state.complete and context.now_ms - state.fetched_ms >= STALL_MS:
        why = f"nothing arrived for {STALL_MS // 1000} s"
        return release(hold, Release.PREPARE_FAILED, why, context)
    beat = Heartbeat(hold.lease_id, state.beat, PREPARING, 0, state.fetched, state.total)
    following = replace(state, beat=state.beat + 1, deadline_ms=context.now_ms + HEARTBEAT_MS)
    return following, (Send(hold.requester, context.signer.sign(beat).envelope, 0),)


def be_ready(state: Preparing, event: Prepared, context: Context) -> Step:
    """Tell the requester that image and inputs are here."""
    hold, now_ms = state.hold, context.now_ms
    until_ms = now_ms + (GANG_WAIT_MS if state.workload.members else START_WAIT_MS)
    following = Waiting(
        hold, min(now_ms + HEARTBEAT_MS, until_ms), state.contract, state.workload, until_ms,
        state.beat,
    )  # fmt: skip
    ready = context.signer.sign(Ready(hold.lease_id))
    return following, (
        save(following),
        Send(hold.requester, ready.envelope, until_ms),
    )


def beat_waiting(state: Waiting, event: DeadlineReached, context: Context) -> Step:
    """Send a heartbeat while other members of the gang fetch, or the slot is in use."""
    if context.now_ms >= (state.until_ms or state.deadline_ms):
        if state.told_to_start:
            why = "the job before it on its slot still runs"
            return release(state.hold, Release.SLOT_BUSY, why, context)
        return _expire(state.hold, context)
    beat = Heartbeat(state.hold.lease_id, state.beat, PREPARING, 0)
    deadline_ms = min(context.now_ms + HEARTBEAT_MS, state.until_ms)
    following = replace(state, beat=state.beat + 1, deadline_ms=deadline_ms)
    return following, (Send(state.hold.requester, context.signer.sign(beat).envelope, 0),)


def fail_preparing(state: Preparing, event: PrepareFailed, context: Context) -> Step:
    """Release the lease: image or inputs are unavailable."""
    return release(state.hold, Release.PREPARE_FAILED, event.why, context)


def release_unstarted(state: Unstarted, event: Signed[LeaseRelease], context: Context) -> Step:
    """Release the capacity: nothing has run."""
    return end(state.hold, Released(state.hold.lease_id, 0, b""), context)


def say_stopped(state: Stopping, event: ContainerExited, context: Context) -> Step:
    """Bill the usage until the requester's release."""
    hold = state.hold
    usage_ms = min(event.usage_ms, hold.usage_ms_max, state.usage_ms_max)
    following = bill(state, usage_ms, (event.exit_code, b""), context)
    said = context.signer.sign(Released(hold.lease_id, usage_ms, following.proposal))
    until_ms = context.now_ms + SETTLEMENT_MS
    following = replace(following, last_word=said.envelope)
    return following, (
        save(following),
        settle_of(following, b""),
        Send(hold.requester, said.envelope, until_ms),
        Drop(hold.lease_id),
    )


def give_up_stopping(
    state: Stopping, event: ContainerFailed | DeadlineReached, context: Context
) -> Step:
    """End without a bill: the sandbox does not know the usage."""
    return end(state.hold, Released(state.hold.lease_id, 0, b""), context)


def keep_voucher(state: Settling, event: Signed[Voucher], context: Context) -> Step:
    """Store a higher voucher: it proves the debt even without a countersigned receipt."""
    voucher = event.message
    known = promised(state.voucher)
    if voucher.contract != state.receipt.contract or voucher.amount <= known:
        return state, NOTHING
    following = replace(state, voucher=event.envelope)
    return following, (save(following), settle_of(following, b""))


def settle(state: Settling, event: Signed[Receipt], context: Context) -> Step:
    """Store the receipt that both sides signed; the requester has the outputs."""
    if event.message != state.receipt:
        return state, NOTHING
    ended = Ended(state.hold)
    return ended, (save(ended), settle_of(state, event.envelope), Drop(state.hold.lease_id))


def give_up_settling(state: Settling, event: DeadlineReached, context: Context) -> Step:
    """Discard outputs that the requester did not fetch."""
    ended = Ended(state.hold)
    return ended, (save(ended), Drop(state.hold.lease_id))


def stop(state: Unstarted, event: StopRequested, context: Context) -> Step:
    """Release the lease without a bill: our owner stops the node."""
    return release_stopping(state.hold, context)


def expire(state: Held | Active, event: DeadlineReached, context: Context) -> Step:
    """Release the capacity: the requester fell silent."""
    return _expire(state.hold, context)


def _expire(hold: Hold, context: Context) -> Step:
    return release(hold, Release.EXPIRED, "the requester fell silent", context)


LONGEST_MS: Final[Mapping[type, int]] = {
    Held: HELD_MS, Active: DEPLOY_WAIT_MS, Settling: RETAIN_MS,
}  # fmt: skip
"""The longest time that a state waits for its requester."""


def resume(state: State, context: Context) -> Step:
    """Resume a lease after a restart; take over a container that still runs."""
    match state:
        case Held(others=others) if others:
            held: Held = no_later(state, MEASURING_MS, context)
            return held, (_measurement(held, context),)
        case Preparing(hold, _, _, workload):
            anew = replace(
                no_later(state, HEARTBEAT_MS, context), fetched=0, fetched_ms=context.now_ms,
                until_ms=min(state.until_ms, context.now_ms + PREPARE_MS),
            )  # fmt: skip
            return anew, (Prepare(hold.lease_id, hold.requester, workload),)
        case Waiting(workload=workload):
            longest_ms = GANG_WAIT_MS if workload.members else START_WAIT_MS
            until_ms = min(state.until_ms or state.deadline_ms, context.now_ms + longest_ms)
            return replace(no_later(state, HEARTBEAT_MS, context), until_ms=until_ms), NOTHING
        case Serving():
            # Its usage is unknown until the sandbox reports it again.
            again = replace(
                state, deadline_ms=context.now_ms + HEARTBEAT_MS,
                started_ms=context.now_ms, started=False, paused_since_ms=0, paused_at_ms=0,
                checkpoints=due_again(state, context),
            )  # fmt: skip
            return again, (launch(again, context),)
        case Leaving():  # The node stopped before the job's time was over: it is over now.
            return replace(state, deadline_ms=context.now_ms, until_ms=context.now_ms), NOTHING
        case Stopping():
            longer = replace(state, deadline_ms=context.now_ms + STOP_MS)
            return longer, (Kill(state.hold.lease_id),)
        case Ended():
            return state, NOTHING
        case _:
            return no_later(state, LONGEST_MS[type(state)], context), NOTHING
