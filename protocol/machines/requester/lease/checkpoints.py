"""The checkpoints of a running job at its requester: the newest is fetched, kept and acknowledged.

Spec: specs/checkpoints.md#while-it-runs. Only what is acknowledged counts: the next attempt
continues from it.
"""

from dataclasses import replace

from protocol.machines.context import Context
from protocol.machines.effects import FetchCheckpoint, KeepCheckpoint, Report, Send
from protocol.machines.events import Checkpointed, Preempted
from protocol.machines.inputs import CheckpointFetched, CheckpointLost
from protocol.machines.requester.lease.ending import save
from protocol.machines.requester.lease.states import Executing, Lease, Step
from protocol.machines.table import NOTHING
from protocol.values.limits import CHECKPOINT_MS_MIN, CHECKPOINTS_MORE_MAX, MESSAGE_MS
from protocol.wire.envelope import Signed
from protocol.wire.messages import Checkpoint, CheckpointAck, PreemptNotice


def fetch_of(lease: Lease, checkpoint: Checkpoint) -> FetchCheckpoint:
    """Return the effect that fetches a checkpoint."""
    place = (lease.job_id, lease.lease_id, lease.provider)
    return FetchCheckpoint(*place, lease.workload, checkpoint)


def hear_checkpoint(state: Executing, event: Signed[Checkpoint], context: Context) -> Step:
    """Fetch a checkpoint that is newer than what we have, or acknowledge again what is here."""
    lease, checkpoint, known = state.lease, event.message, state.checkpoints
    if checkpoint.sequence == known.sequence:
        return state, (_answer(state, checkpoint.sequence, context, kept=True),)
    newest = known.fetching.sequence if known.fetching else known.sequence
    ran_ms = context.now_ms - state.since_ms
    most = ran_ms // CHECKPOINT_MS_MIN + CHECKPOINTS_MORE_MAX
    if not lease.workload.checkpoint or not newest < checkpoint.sequence <= most:
        return state, NOTHING
    following = replace(state, checkpoints=replace(known, fetching=checkpoint))
    return following, (save(following), fetch_of(lease, checkpoint))


def keep_checkpoint(state: Executing, event: CheckpointFetched, context: Context) -> Step:
    """Keep a checkpoint that is here, and acknowledge it."""
    lease, checkpoint = state.lease, state.checkpoints.fetching
    if checkpoint is None or checkpoint.sequence != event.sequence:
        return state, NOTHING
    known = replace(state.checkpoints, sequence=checkpoint.sequence, fetching=None)
    following = replace(state, checkpoints=known)
    number = lease.resumes_from + checkpoint.sequence
    told = Checkpointed(lease.provider, number, checkpoint.size, checkpoint.listing.digest)
    return following, (
        save(following),
        Report(lease.job_id, told),
        KeepCheckpoint(lease.job_id, lease.lease_id, number, checkpoint),
        _answer(state, checkpoint.sequence, context, kept=True),
    )


def lose_checkpoint(state: Executing, event: CheckpointLost, context: Context) -> Step:
    """Tell the provider that a checkpoint cannot be fetched: it takes another one."""
    known = state.checkpoints
    if known.fetching is None or known.fetching.sequence != event.sequence:
        return state, NOTHING
    following = replace(state, checkpoints=replace(known, fetching=None))
    return following, (
        save(following),
        _answer(state, event.sequence, context, kept=False),
    )


def hear_notice(state: Executing, event: Signed[PreemptNotice], context: Context) -> Step:
    """Tell our user that the provider stops, and that its job was told so."""
    lease = state.lease
    return state, (Report(lease.job_id, Preempted(lease.provider, event.message.notice_ms)),)


def _answer(state: Executing, sequence: int, context: Context, *, kept: bool) -> Send:
    answer = context.signer.sign(CheckpointAck(state.lease.lease_id, sequence, kept))
    return Send(state.lease.provider, answer.envelope, context.now_ms + MESSAGE_MS)
