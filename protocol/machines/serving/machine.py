"""The provider's side of one lease: from the award to the countersigned receipt.

Spec: specs/lease.md#provider. Capacity is held hard from the award on. What runs is written down
before it is started, and never runs further than vouchers and the exposure limit reach.
"""

from dataclasses import replace
from typing import Final

from protocol.machines.context import Context
from protocol.machines.effects import (
    Drop,
    Extend,
    Kill,
    Launch,
    Prepare,
    Save,
    Send,
)
from protocol.machines.inputs import (
    ContainerExited,
    ContainerFailed,
    ContainerStarted,
    DeadlineReached,
    FetchProgressed,
    Prepared,
    PrepareFailed,
    StopRequested,
)
from protocol.machines.serving.billing import promised, receipt_of, settle_of
from protocol.machines.serving.states import (
    Active,
    Ended,
    Held,
    Hold,
    Preparing,
    Serving,
    Settling,
    State,
    Step,
    Stopping,
    Unstarted,
    Waiting,
)
from protocol.machines.table import NOTHING, Pairs, Transitions, all_pairs
from protocol.rules.capacity import Reservation
from protocol.rules.metering import amount_of
from protocol.values.ids import ContentId
from protocol.values.limits import (
    DEPLOY_WAIT_MS,
    EXPOSURE_MS,
    HEARTBEAT_MS,
    HELD_MS,
    MESSAGE_MS,
    PREPARE_MS,
    RETAIN_MS,
    SETTLEMENT_MS,
    START_WAIT_MS,
    STOP_MS,
)
from protocol.values.reasons import Release
from protocol.wire.envelope import Signed
from protocol.wire.job import faults_of_workload as faults
from protocol.wire.messages import (
    PREPARING,
    RUNNING,
    AwardAccept,
    Completed,
    Deploy,
    Heartbeat,
    LeaseActive,
    LeaseConfirm,
    LeaseRelease,
    Ready,
    Receipt,
    Released,
    Start,
    Started,
    Voucher,
)
from protocol.wire.schema import text_within

DETAIL_BYTES: Final = 512
"""How much of an explanation travels."""


def hold_award(hold: Hold, award: ContentId, hold_ms: int, context: Context) -> Step:
    """Hold the capacity and accept the award."""
    accept = context.signer.sign(AwardAccept(hold.lease_id, award))
    state = Held(hold, context.now_ms + min(hold_ms, HELD_MS), accept.content_id)
    return state, (_save(state), Send(hold.requester, accept.envelope, state.deadline_ms))


def activate(state: Held, event: Signed[LeaseConfirm], context: Context) -> Step:
    """Take the contract, if its amount is the one that call and award give."""
    if event.message.accept != state.accept:
        return state, NOTHING
    hold = state.hold
    if event.message.amount_max != amount_of(hold.rate, hold.usage_ms_max):
        why = "the confirmation names another amount than the award and the call give"
        return _release(hold, Release.CONTRACT, why, context)
    following = Active(hold, context.now_ms + DEPLOY_WAIT_MS, event.content_id)
    active = context.signer.sign(LeaseActive(hold.lease_id, event.content_id))
    return following, (
        _save(following),
        Send(hold.requester, active.envelope, following.deadline_ms),
    )


def prepare(state: Active, event: Signed[Deploy], context: Context) -> Step:
    """Fetch image and inputs of a job that asks for no more than the contract says."""
    hold, workload = state.hold, event.message.workload
    beyond = (
        workload.resources != hold.resources
        or workload.timeout_ms > hold.usage_ms_max
        or bool(faults(workload))
    )
    if beyond:
        return _release(hold, Release.CONTRACT, "the job is not the one called for", context)
    following = Preparing(
        hold, context.now_ms + HEARTBEAT_MS, state.contract, workload,
        context.now_ms + PREPARE_MS, 0,
    )  # fmt: skip
    return following, (_save(following), Prepare(hold.lease_id, hold.requester, workload))


def note_progress(state: Preparing, event: FetchProgressed, context: Context) -> Step:
    """Remember how far the fetching is, for the next heartbeat."""
    return replace(state, fetched=event.fetched, total=event.total), NOTHING


def beat_preparing(state: Preparing, event: DeadlineReached, context: Context) -> Step:
    """Tell the requester that we are still fetching, up to a bound."""
    hold = state.hold
    if context.now_ms >= state.until_ms:
        return _release(hold, Release.PREPARE_FAILED, "fetching took too long", context)
    beat = Heartbeat(hold.lease_id, state.beat, PREPARING, 0, state.fetched, state.total)
    following = replace(state, beat=state.beat + 1, deadline_ms=context.now_ms + HEARTBEAT_MS)
    return following, (Send(hold.requester, context.signer.sign(beat).envelope, 0),)


def be_ready(state: Preparing, event: Prepared, context: Context) -> Step:
    """Say that nothing is missing."""
    hold = state.hold
    following = Waiting(hold, context.now_ms + START_WAIT_MS, state.contract, state.workload)
    ready = context.signer.sign(Ready(hold.lease_id))
    return following, (
        _save(following),
        Send(hold.requester, ready.envelope, following.deadline_ms),
    )


def fail_preparing(state: Preparing, event: PrepareFailed, context: Context) -> Step:
    """Give the lease back, since image or inputs cannot be had."""
    return _release(state.hold, Release.PREPARE_FAILED, event.why, context)


def serve(state: Waiting, event: Signed[Start], context: Context) -> Step:
    """Launch the container. That it runs is written down before it does."""
    hold = state.hold
    if event.message.attempt != hold.attempt:
        return state, NOTHING
    following = Serving(
        hold, context.now_ms + HEARTBEAT_MS, state.contract, state.workload,
        started_ms=context.now_ms, beat=0, paid_ms=0, vouchers=0, voucher=b"",
    )  # fmt: skip
    return following, (_save(following), _launch(following))


def say_started(state: Serving, event: ContainerStarted, context: Context) -> Step:
    """Tell the requester that usage counts from here on. A container taken over counts on.

    The sandbox says what was used: our own clock may have been set since the container started.
    """
    begun = replace(state, started=True, started_ms=context.now_ms - event.usage_ms)
    started = context.signer.sign(Started(state.hold.lease_id))
    until_ms = context.now_ms + MESSAGE_MS
    return begun, (_save(begun), Send(state.hold.requester, started.envelope, until_ms))


def beat_serving(state: Serving, event: DeadlineReached, context: Context) -> Step:
    """Report the usage; stop a container that runs beyond what is paid and the exposure limit."""
    hold = state.hold
    if state.killed:
        return _release(hold, Release.SANDBOX_FAILED, "the container did not stop", context)
    usage_ms = _used_ms(state, context)
    if usage_ms >= state.paid_ms + EXPOSURE_MS:
        # What has run is billed when the container has exited.
        following = replace(state, killed=True, deadline_ms=context.now_ms + STOP_MS)
        return following, (Kill(hold.lease_id),)
    told_ms = usage_ms if state.started else state.paid_ms
    beat = Heartbeat(hold.lease_id, state.beat, RUNNING, told_ms)
    following = replace(state, beat=state.beat + 1, deadline_ms=context.now_ms + HEARTBEAT_MS)
    return following, (Send(hold.requester, context.signer.sign(beat).envelope, 0),)


def take_voucher(state: Serving, event: Signed[Voucher], context: Context) -> Step:
    """Let the container live further. The voucher is written down before that."""
    voucher = event.message
    honest = voucher.amount >= amount_of(state.hold.rate, voucher.usage_ms)
    if voucher.contract != state.contract or voucher.sequence <= state.vouchers or not honest:
        return state, NOTHING
    paid_ms = max(state.paid_ms, voucher.usage_ms)
    following = replace(state, paid_ms=paid_ms, vouchers=voucher.sequence, voucher=event.envelope)
    return following, (_save(following), Extend(state.hold.lease_id, paid_ms + EXPOSURE_MS))


def complete(state: Serving, event: ContainerExited, context: Context) -> Step:
    """Bill what was used, and say where the outputs are."""
    hold = state.hold
    usage_ms = min(event.usage_ms, hold.usage_ms_max)
    outputs = event.outputs.digest
    receipt = receipt_of(hold, state.contract, usage_ms, (event.exit_code, outputs), context)
    proposal = context.signer.sign(receipt).envelope
    completed = context.signer.sign(Completed(
        hold.lease_id, event.exit_code, event.reason, text_within(event.detail, DETAIL_BYTES),
        usage_ms, event.outputs, proposal,
    ))  # fmt: skip
    following = Settling(hold, context.now_ms + RETAIN_MS, proposal, receipt, state.voucher)
    until_ms = context.now_ms + SETTLEMENT_MS
    return following, (
        _save(following),
        settle_of(following, b""),
        Send(hold.requester, completed.envelope, until_ms),
    )


def fail_serving(state: Serving, event: ContainerFailed, context: Context) -> Step:
    """Give the lease back, since the sandbox failed. Nothing is billed."""
    return _release(state.hold, Release.SANDBOX_FAILED, event.why, context)


def release_unstarted(state: Unstarted, event: Signed[LeaseRelease], context: Context) -> Step:
    """Give the capacity free: nothing has run."""
    return _end(state.hold, Released(state.hold.lease_id, 0, b""), context)


def release_serving(state: Serving, event: Signed[LeaseRelease], context: Context) -> Step:
    """Stop the container."""
    used_ms = _used_ms(state, context) if state.started else state.paid_ms
    deadline_ms = context.now_ms + STOP_MS
    following = Stopping(state.hold, deadline_ms, state.contract, state.voucher, used_ms)
    return following, (_save(following), Kill(state.hold.lease_id))


def say_stopped(state: Stopping, event: ContainerExited, context: Context) -> Step:
    """Bill what was used until the requester released us."""
    hold = state.hold
    usage_ms = min(event.usage_ms, hold.usage_ms_max, state.usage_ms_max)
    receipt = receipt_of(hold, state.contract, usage_ms, (event.exit_code, b""), context)
    proposal = context.signer.sign(receipt).envelope
    said = context.signer.sign(Released(hold.lease_id, usage_ms, proposal))
    following = Settling(hold, context.now_ms + RETAIN_MS, proposal, receipt, state.voucher)
    until_ms = context.now_ms + SETTLEMENT_MS
    return following, (
        _save(following),
        settle_of(following, b""),
        Send(hold.requester, said.envelope, until_ms),
        Drop(hold.lease_id),
    )


def give_up_stopping(
    state: Stopping, event: ContainerFailed | DeadlineReached, context: Context
) -> Step:
    """End without a bill: the sandbox cannot say what was used."""
    return _end(state.hold, Released(state.hold.lease_id, 0, b""), context)


def keep_voucher(state: Settling, event: Signed[Voucher], context: Context) -> Step:
    """Keep a voucher for more than the one before: it is a debt even without a countersign."""
    voucher = event.message
    known = promised(state.voucher, context)
    if voucher.contract != state.receipt.contract or voucher.amount <= known:
        return state, NOTHING
    following = replace(state, voucher=event.envelope)
    return following, (_save(following), settle_of(following, b""))


def settle(state: Settling, event: Signed[Receipt], context: Context) -> Step:
    """Keep the receipt that both have signed; the outputs are with the requester."""
    if event.message != state.receipt:
        return state, NOTHING
    ended = Ended(state.hold)
    return ended, (_save(ended), settle_of(state, event.envelope), Drop(state.hold.lease_id))


def give_up_settling(state: Settling, event: DeadlineReached, context: Context) -> Step:
    """Drop outputs that nobody fetched."""
    ended = Ended(state.hold)
    return ended, (_save(ended), Drop(state.hold.lease_id))


def stop(state: Unstarted | Serving, event: StopRequested, context: Context) -> Step:
    """Give the lease back unbilled, since our owner stops the node."""
    return _release(state.hold, Release.STOPPING, "the provider's owner stopped the node", context)


def expire(state: Held | Active | Waiting, event: DeadlineReached, context: Context) -> Step:
    """Give the capacity free, since the requester fell silent."""
    return _release(state.hold, Release.EXPIRED, "the requester fell silent", context)


TRANSITIONS: Final[Transitions] = {
    (Held, LeaseConfirm): activate,
    (Held, LeaseRelease): release_unstarted,
    (Held, StopRequested): stop,
    (Held, DeadlineReached): expire,
    (Active, Deploy): prepare,
    (Active, LeaseRelease): release_unstarted,
    (Active, StopRequested): stop,
    (Active, DeadlineReached): expire,
    (Preparing, FetchProgressed): note_progress,
    (Preparing, Prepared): be_ready,
    (Preparing, PrepareFailed): fail_preparing,
    (Preparing, LeaseRelease): release_unstarted,
    (Preparing, StopRequested): stop,
    (Preparing, DeadlineReached): beat_preparing,
    (Waiting, Start): serve,
    (Waiting, LeaseRelease): release_unstarted,
    (Waiting, StopRequested): stop,
    (Waiting, DeadlineReached): expire,
    (Serving, ContainerStarted): say_started,
    (Serving, ContainerExited): complete,
    (Serving, ContainerFailed): fail_serving,
    (Serving, Voucher): take_voucher,
    (Serving, LeaseRelease): release_serving,
    (Serving, StopRequested): stop,
    (Serving, DeadlineReached): beat_serving,
    (Stopping, ContainerExited): say_stopped,
    (Stopping, ContainerFailed): give_up_stopping,
    (Stopping, DeadlineReached): give_up_stopping,
    (Settling, Receipt): settle,
    (Settling, Voucher): keep_voucher,
    (Settling, DeadlineReached): give_up_settling,
}
INPUTS: Final = (
    LeaseConfirm, Deploy, Start, Voucher, LeaseRelease, Receipt, Prepared, PrepareFailed,
    FetchProgressed, ContainerStarted, ContainerExited, ContainerFailed, DeadlineReached,
    StopRequested,
)  # fmt: skip
# Late or repeated, or a word about an execution that is over: these change nothing.
IGNORED: Final[Pairs] = all_pairs(State, INPUTS) - TRANSITIONS.keys()


def reserved(state: State) -> Reservation | None:
    """Return the capacity that a state keeps, or None if it is free again."""
    return None if isinstance(state, Settling | Ended) else state.hold.reservation


def resume(state: State, context: Context) -> Step:
    """Go on with a lease after a restart; a container that still runs is taken over."""
    match state:
        case Preparing(hold, _, _, workload):
            return state, (Prepare(hold.lease_id, hold.requester, workload),)
        case Serving():
            # Its usage is not known before the sandbox has told it again.
            again = replace(
                state, deadline_ms=context.now_ms + HEARTBEAT_MS,
                started_ms=context.now_ms, started=False,
            )  # fmt: skip
            return again, (_launch(again),)
        case Stopping():
            longer = replace(state, deadline_ms=context.now_ms + STOP_MS)
            return longer, (Kill(state.hold.lease_id),)
        case _:
            return state, NOTHING


def _used_ms(state: Serving, context: Context) -> int:
    """Return the usage until now, and no less than what is paid."""
    return max(state.paid_ms, context.now_ms - state.started_ms)


def _launch(state: Serving) -> Launch:
    hold = state.hold
    budget_ms = state.paid_ms + EXPOSURE_MS
    return Launch(hold.lease_id, hold.requester, state.workload, hold.reservation, budget_ms)


def _release(hold: Hold, reason: Release, why: str, context: Context) -> Step:
    return _end(hold, LeaseRelease(hold.lease_id, reason, text_within(why, DETAIL_BYTES)), context)


def _end(hold: Hold, last_word: LeaseRelease | Released, context: Context) -> Step:
    ended = Ended(hold)
    said = context.signer.sign(last_word).envelope
    send = Send(hold.requester, said, context.now_ms + MESSAGE_MS)
    return ended, (_save(ended), send, Drop(hold.lease_id))


def _save(state: State) -> Save:
    return Save("serving", state.hold.lease_id, None if isinstance(state, Ended) else state)
