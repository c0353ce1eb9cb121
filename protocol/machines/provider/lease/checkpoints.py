"""The checkpoints of a running job at its provider.

Spec: specs/checkpoints.md#while-it-runs. One announcement is under way at a time: the next
checkpoint is taken when the requester has answered.
"""

from dataclasses import replace
from typing import TypeVar

from protocol.machines.context import Context
from protocol.machines.effects import Effect, Send, TakeCheckpoint
from protocol.machines.inputs import CheckpointTaken
from protocol.machines.provider.lease.ending import save
from protocol.machines.provider.lease.states import Leaving, Serving, Step, TakenCheckpoints
from protocol.machines.table import NOTHING
from protocol.values.limits import MESSAGE_MS
from protocol.wire.envelope import Signed, reopen
from protocol.wire.messages import Checkpoint, CheckpointAck

S = TypeVar("S", Serving, Leaving)


def look(state: S, context: Context) -> tuple[S, tuple[Effect, ...]]:
    """Take the next checkpoint, or repeat the announcement that the requester has not answered."""
    due_ms = context.now_ms + state.workload.checkpoint_ms
    following = replace(state, checkpoints=replace(state.checkpoints, due_ms=due_ms))
    if said := state.checkpoints.unacknowledged:
        return following, (Send(state.hold.requester, said, 0),)
    taking = TakeCheckpoint(state.hold.lease_id, state.workload, state.checkpoints.mark)
    return following, (taking,)


def look_if_due(state: Serving, context: Context) -> tuple[Serving, tuple[Effect, ...]]:
    """Look for the next checkpoint of a job that has one, if it is time."""
    due = context.now_ms >= state.checkpoints.due_ms
    if not state.workload.checkpoint or not state.started or state.is_paused or not due:
        return state, NOTHING
    return look(state, context)


def due_again(state: Serving, context: Context) -> TakenCheckpoints:
    """Return the checkpoints after a restart: our clock may have been set back meanwhile."""
    due_ms = min(state.checkpoints.due_ms, context.now_ms + state.workload.checkpoint_ms)
    return replace(state.checkpoints, due_ms=due_ms)


def announce(state: S, event: CheckpointTaken, context: Context) -> tuple[S, tuple[Effect, ...]]:
    """Announce a checkpoint to the requester, unless it has the same content as the last."""
    taken, hold = state.checkpoints, state.hold
    if event.listing.digest == taken.listing:
        return replace(state, checkpoints=replace(taken, mark=event.mark)), NOTHING
    number = taken.sequence + 1
    said = context.signer.sign(Checkpoint(hold.lease_id, number, event.listing, event.size))
    newest = replace(
        taken, sequence=number, listing=event.listing.digest, mark=event.mark,
        unacknowledged=said.envelope,
    )  # fmt: skip
    following = replace(state, checkpoints=newest)
    return following, (
        save(following),
        Send(hold.requester, said.envelope, context.now_ms + MESSAGE_MS),
    )


def take_answer(state: S, event: Signed[CheckpointAck]) -> S:
    """Return the state after an answer; what could not be fetched is taken again."""
    taken, answer = state.checkpoints, event.message
    if answer.sequence != taken.sequence:
        return state
    taken = replace(taken, unacknowledged=b"")
    return replace(
        state, checkpoints=taken if answer.kept else replace(taken, mark=b"", listing=b"")
    )


def note_checkpoint(state: Serving, event: CheckpointTaken, context: Context) -> Step:
    """Announce a checkpoint that was taken, if it is a new one."""
    return announce(state, event, context)


def note_answer(state: Serving, event: Signed[CheckpointAck], context: Context) -> Step:
    """Note that the requester has stored the newest checkpoint, or could not fetch it."""
    following = take_answer(state, event)
    return (state, NOTHING) if following == state else (following, (save(following),))


def offered(state: Serving) -> Checkpoint | None:
    """Return the checkpoint that the requester may be fetching; None if there is none."""
    said = state.checkpoints.unacknowledged
    if not said:
        return None
    message = reopen(said)
    assert isinstance(message, Checkpoint)
    return message
