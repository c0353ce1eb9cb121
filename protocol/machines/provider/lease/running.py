"""A lease while its container runs: from the start to the bill.

Spec: specs/lease.md#provider. A container is saved before it is launched, and never runs beyond
what vouchers and the exposure limit cover.
"""

from dataclasses import replace

from protocol.machines.context import Context
from protocol.machines.effects import Extend, Kill, Launch, Send
from protocol.machines.inputs import (
    ContainerExited,
    ContainerExtended,
    ContainerFailed,
    ContainerStarted,
    DeadlineReached,
    PauseDenied,
    SlotFreed,
)
from protocol.machines.provider.lease.billing import bill, settle_of
from protocol.machines.provider.lease.checkpoints import look_if_due
from protocol.machines.provider.lease.ending import DETAIL_BYTES, release, save
from protocol.machines.provider.lease.states import (
    Active,
    Held,
    Preparing,
    Serving,
    Step,
    Stopping,
    TakenCheckpoints,
    Waiting,
)
from protocol.machines.provider.lease.usage import budget_ms, note_pause, note_usage, used_ms
from protocol.machines.table import NOTHING
from protocol.rules.metering import amount_of
from protocol.values.ids import NO_LEASE
from protocol.values.limits import (
    HEARTBEAT_MS,
    MESSAGE_MS,
    SETTLEMENT_MS,
    STOP_MS,
    SUCCESSOR_MS,
)
from protocol.values.reasons import Release
from protocol.wire.envelope import Signed
from protocol.wire.messages import (
    RUNNING,
    Completed,
    Heartbeat,
    LeaseRelease,
    Start,
    Started,
    Voucher,
)
from protocol.wire.schema import text_within


def serve(state: Waiting, event: Signed[Start], context: Context) -> Step:
    """Launch the container, or wait for the lease before it on its slot."""
    if event.message.attempt != state.hold.attempt or state.told_to_start:
        return state, NOTHING
    if not state.hold.after:
        return _serve(state, context)
    until_ms = context.now_ms + SUCCESSOR_MS
    deadline_ms = min(context.now_ms + HEARTBEAT_MS, until_ms)
    waiting = replace(state, told_to_start=True, deadline_ms=deadline_ms, until_ms=until_ms)
    return waiting, (save(waiting),)


def take_over(state: Held | Active | Preparing, event: SlotFreed, context: Context) -> Step:
    """Reserve the capacity of the lease before it on its slot."""
    following = replace(state, hold=replace(state.hold, after=NO_LEASE))
    return following, (save(following),)


def serve_next(state: Waiting, event: SlotFreed, context: Context) -> Step:
    """Launch the container if the requester has started it; else only reserve the capacity."""
    following = replace(state, hold=replace(state.hold, after=NO_LEASE))
    return _serve(following, context) if state.told_to_start else (following, (save(following),))


def _serve(state: Waiting, context: Context) -> Step:
    """Launch the container. The state is saved before the launch."""
    hold = state.hold
    following = Serving(
        hold, context.now_ms + HEARTBEAT_MS, state.contract, state.workload,
        started_ms=context.now_ms, beat=0, paid_ms=0, vouchers=0, voucher=b"",
        checkpoints=TakenCheckpoints(
            due_ms=context.now_ms + state.workload.checkpoint_ms,
            listing=b"".join(listing.digest for listing in state.workload.resume),
        ),
    )  # fmt: skip
    return following, (save(following), launch(following, context))


def say_started(state: Serving, event: ContainerStarted, context: Context) -> Step:
    """Tell the requester that usage counts from now on; after a takeover, continue the count.

    The sandbox reports the usage: our own clock may have been set since the container started.
    """
    begun = replace(note_usage(state, event.usage_ms, context), started=True)
    started = context.signer.sign(Started(state.hold.lease_id))
    until_ms = context.now_ms + MESSAGE_MS
    return begun, (save(begun), Send(state.hold.requester, started.envelope, until_ms))


def beat_serving(state: Serving, event: DeadlineReached, context: Context) -> Step:
    """Report the usage, also while the container is paused for lack of vouchers."""
    hold = state.hold
    if state.killed:
        return release(hold, Release.SANDBOX_FAILED, "the container did not stop", context)
    was_paused, state = state.is_paused, note_pause(state, context)
    waits_ms = context.policy.pause_ms if state.started else 0
    if state.is_paused and context.now_ms >= state.paused_since_ms + waits_ms:
        return _stop_unpaid(state, context)
    told_ms = used_ms(state, context) if state.started else state.paid_ms
    beat = Heartbeat(hold.lease_id, state.beat, RUNNING, told_ms)
    following = replace(state, beat=state.beat + 1, deadline_ms=context.now_ms + HEARTBEAT_MS)
    following, looking = look_if_due(following, context)
    told = (Send(hold.requester, context.signer.sign(beat).envelope, 0), *looking)
    return following, told if was_paused == state.is_paused else (save(following), *told)


def deny_pause(state: Serving, event: PauseDenied, context: Context) -> Step:
    """Stop a paused container: paused memory exceeds our owner's limit."""
    return _stop_unpaid(state, context)


def take_voucher(state: Serving, event: Signed[Voucher], context: Context) -> Step:
    """Extend the container's budget. The voucher is saved first."""
    voucher = event.message
    honest = voucher.amount >= amount_of(state.hold.rate, voucher.usage_ms)
    if voucher.contract != state.contract or voucher.sequence <= state.vouchers or not honest:
        return state, NOTHING
    following = replace(
        note_pause(state, context), paid_ms=max(state.paid_ms, voucher.usage_ms),
        vouchers=voucher.sequence, voucher=event.envelope,
    )  # fmt: skip
    return following, (save(following), Extend(state.hold.lease_id, budget_ms(following)))


def go_on(state: Serving, event: ContainerExtended, context: Context) -> Step:
    """Resume counting the usage of a container that was paused."""
    if not state.paused_since_ms or event.usage_ms >= budget_ms(state):
        return state, NOTHING
    following = note_usage(state, event.usage_ms, context)
    return following, (save(following),)


def complete(state: Serving, event: ContainerExited, context: Context) -> Step:
    """Send the bill and the reference to the outputs."""
    hold = state.hold
    usage_ms = min(event.usage_ms, hold.usage_ms_max)
    following = bill(state, usage_ms, (event.exit_code, event.outputs.digest), context)
    completed = context.signer.sign(Completed(
        hold.lease_id, event.exit_code, event.reason, text_within(event.detail, DETAIL_BYTES),
        usage_ms, event.outputs, following.proposal,
    ))  # fmt: skip
    until_ms = context.now_ms + SETTLEMENT_MS
    following = replace(following, last_word=completed.envelope)
    return following, (
        save(following),
        settle_of(following, b""),
        Send(hold.requester, completed.envelope, until_ms),
    )


def fail_serving(state: Serving, event: ContainerFailed, context: Context) -> Step:
    """Release the lease: the sandbox or a GPU failed. Nothing is billed."""
    return release(state.hold, event.reason, event.why, context)


def release_serving(state: Serving, event: Signed[LeaseRelease], context: Context) -> Step:
    """Stop the container."""
    run_ms = used_ms(state, context) if state.started else state.paid_ms
    deadline_ms = context.now_ms + STOP_MS
    following = Stopping(state.hold, deadline_ms, state.contract, state.voucher, run_ms)
    return following, (save(following), Kill(state.hold.lease_id))


def _stop_unpaid(state: Serving, context: Context) -> Step:
    """Stop an unpaid container. Its usage is billed after it has exited."""
    following = replace(state, killed=True, deadline_ms=context.now_ms + STOP_MS)
    return following, (Kill(state.hold.lease_id),)


def launch(state: Serving, context: Context) -> Launch:
    """Return the effect that starts the container or takes it over."""
    hold = state.hold
    return Launch(
        hold.lease_id, hold.requester, state.workload, hold.reservation, budget_ms(state),
        context.policy.pause_ms,
    )  # fmt: skip
