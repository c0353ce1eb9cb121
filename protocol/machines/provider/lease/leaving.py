"""The end of a lease whose provider stops: notice, last checkpoint, release.

Spec: specs/checkpoints.md#notice. Nothing of this time is billed.
"""

from dataclasses import replace

from protocol.machines.context import Context
from protocol.machines.effects import Extend, Send, Terminate
from protocol.machines.inputs import (
    CheckpointTaken,
    ContainerExited,
    ContainerFailed,
    DeadlineReached,
    StopRequested,
)
from protocol.machines.provider.lease.checkpoints import announce, look, take_answer
from protocol.machines.provider.lease.ending import end, release_stopping, save
from protocol.machines.provider.lease.states import Leaving, Serving, Step
from protocol.machines.provider.lease.usage import budget_ms
from protocol.machines.table import NOTHING
from protocol.values.limits import HEARTBEAT_MS
from protocol.values.reasons import Release
from protocol.wire.envelope import Signed
from protocol.wire.messages import (
    RUNNING,
    CheckpointAck,
    Heartbeat,
    LeaseRelease,
    PreemptNotice,
    Released,
)


def give_notice(state: Serving, event: StopRequested, context: Context) -> Step:
    """Tell job and requester that the lease will end, if the job can save its state."""
    hold = state.hold
    notice_ms = context.policy.notice_ms if event.notice_ms is None else event.notice_ms
    can_save = state.workload.checkpoint and state.started and notice_ms
    if not can_save or state.is_paused or state.killed:
        return release_stopping(hold, context)
    leaving = Leaving(
        hold, context.now_ms, state.workload, context.now_ms + notice_ms, state.beat,
        state.paid_ms, state.checkpoints,
    )  # fmt: skip
    said = context.signer.sign(PreemptNotice(hold.lease_id, notice_ms, Release.STOPPING))
    following, looking = _beat(leaving, context)
    return following, (
        save(following),
        Send(hold.requester, said.envelope, leaving.until_ms),
        Extend(hold.lease_id, budget_ms(state) + notice_ms),
        Terminate(hold.lease_id, state.workload),
        *looking,
    )


def hasten(state: Leaving, event: StopRequested, context: Context) -> Step:
    """End sooner: our owner reclaims the machine while the job's time runs."""
    if event.notice_ms is None or context.now_ms + event.notice_ms >= state.until_ms:
        return state, NOTHING
    until_ms = context.now_ms + event.notice_ms
    following = replace(state, until_ms=until_ms, deadline_ms=min(state.deadline_ms, until_ms))
    return following, (save(following),)


def beat_leaving(state: Leaving, event: DeadlineReached, context: Context) -> Step:
    """Report that the job still runs, and look for its next checkpoint, until the time is over."""
    if context.now_ms >= state.until_ms:
        return release_stopping(state.hold, context)
    return _beat(state, context)


def note_last(state: Leaving, event: CheckpointTaken, context: Context) -> Step:
    """Announce a checkpoint, also while an older one is under way: it may be the last."""
    return announce(state, event, context)


def note_last_answer(state: Leaving, event: Signed[CheckpointAck], context: Context) -> Step:
    """Release the lease if the container has ended and the requester has what it left."""
    following = take_answer(state, event)
    if following == state:
        return state, NOTHING
    return _stop_if_over(following, context)


def note_exit(state: Leaving, event: ContainerExited | ContainerFailed, context: Context) -> Step:
    """Wait until the requester has the last checkpoint; whatever the exit code, the job goes on."""
    return _stop_if_over(replace(state, exited=True), context)


def let_go(state: Leaving, event: Signed[LeaseRelease], context: Context) -> Step:
    """End without a bill: the requester has released the lease meanwhile."""
    return end(state.hold, Released(state.hold.lease_id, 0, b""), context)


def _beat(state: Leaving, context: Context) -> Step:
    hold = state.hold
    beat = Heartbeat(hold.lease_id, state.beat, RUNNING, state.paid_ms)
    deadline_ms = min(context.now_ms + HEARTBEAT_MS, state.until_ms)
    following = replace(state, beat=state.beat + 1, deadline_ms=deadline_ms)
    told = Send(hold.requester, context.signer.sign(beat).envelope, 0)
    if state.exited:
        return following, (told,)
    following, looking = look(following, context)
    return following, (told, *looking)


def _stop_if_over(state: Leaving, context: Context) -> Step:
    if state.exited and not state.checkpoints.unacknowledged:
        return release_stopping(state.hold, context)
    return state, (save(state),)
