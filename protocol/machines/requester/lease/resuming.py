"""How a requester resumes a lease after a restart, or after its machine slept.

Spec: specs/core.md#recovery. Messages are in the outbox; interrupted work starts again. If our
clock was set back meanwhile, we assume that only the paid time has passed, and no deadline moves
further away.
"""

from dataclasses import replace
from typing import Final

from protocol.machines.context import Context
from protocol.machines.effects import FetchOutputs, FollowLog
from protocol.machines.requester.lease.checkpoints import fetch_of as fetch_checkpoint_of
from protocol.machines.requester.lease.states import (
    Deploying,
    Executing,
    Fetched,
    Launching,
    Lease,
    Live,
    Liveness,
    Releasing,
    State,
    Step,
)
from protocol.machines.table import NOTHING, no_later
from protocol.values.limits import PREPARE_MS, RELEASE_MS, RETURN_MS, SILENCE_MS
from protocol.wire.messages import Completed

SLEPT_MS: Final = 5_000
"""A machine that handles a deadline later than this was not running when it came."""


def fetch_of(lease: Lease, completed: Completed) -> FetchOutputs:
    """Return the effect that fetches what a job left."""
    return FetchOutputs(
        lease.job_id, lease.lease_id, lease.provider, lease.workload, completed.outputs
    )


def woken(state: Live, context: Context) -> State | None:
    """Return the lease with its wait begun again if our machine slept through its deadline.

    None if it did not, or if a later bound of the lease has passed too.
    """
    over = isinstance(state, Deploying) and context.now_ms >= state.until_ms
    if over or context.now_ms <= state.deadline_ms + SLEPT_MS:
        return None
    return resume(state, context)[0]


def resume(state: State, context: Context) -> Step:
    """Resume a lease from its saved state, and start its interrupted work again."""
    lease, liveness = state.lease, Liveness(context.now_ms)
    match state:
        case Executing():
            away_ms = state.away_ms + max(0, context.now_ms - state.deadline_ms)
            alive = replace(
                state, deadline_ms=context.now_ms + SILENCE_MS, away_ms=away_ms, liveness=liveness,
                since_ms=min(state.since_ms, context.now_ms - state.paid_ms),
            )  # fmt: skip
            follow = FollowLog(lease.job_id, lease.lease_id, lease.provider, lease.workload)
            if checkpoint := state.checkpoints.fetching:
                return alive, (follow, fetch_checkpoint_of(lease, checkpoint))
            return alive, (follow,)
        case Fetched():
            fetch = fetch_of(lease, state.completed)
            return replace(state, deadline_ms=context.now_ms + RETURN_MS), (fetch,)
        case Deploying(until_ms=until_ms):
            until_ms = min(until_ms, context.now_ms + PREPARE_MS)
            deadline_ms = context.now_ms + SILENCE_MS
            resumed = replace(state, deadline_ms=deadline_ms, until_ms=until_ms, liveness=liveness)
            return resumed, NOTHING
        case Launching(since_ms=since_ms):
            since_ms = min(since_ms, context.now_ms)
            deadline_ms = context.now_ms + SILENCE_MS
            return replace(
                state, deadline_ms=deadline_ms, since_ms=since_ms, liveness=liveness
            ), NOTHING
        case Releasing():
            return no_later(state, RELEASE_MS, context), NOTHING
        case _:
            return state, NOTHING
