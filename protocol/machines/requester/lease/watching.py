"""Whether the provider of a lease is still there: signs of life, suspicion, and the fence.

Spec: specs/survival.md#suspicion. A silent provider is asked over a new connection before it is
fenced. A requester that is cut off from everybody blames nobody.
"""

from dataclasses import replace
from typing import TypeVar

from protocol.machines.context import Context
from protocol.machines.effects import ProbePeer
from protocol.machines.inputs import (
    DeadlineReached,
    Isolated,
    PeerAnswered,
    PeerDisconnected,
    StateHeard,
)
from protocol.machines.requester.lease.ending import break_off, save
from protocol.machines.requester.lease.repairing import entry_of, repeat
from protocol.machines.requester.lease.resuming import woken
from protocol.machines.requester.lease.states import (
    Deploying,
    Executing,
    Launching,
    Liveness,
    Step,
    Watched,
)
from protocol.machines.table import NOTHING
from protocol.values.limits import (
    CONFIRM_MS,
    LEASE_ABSENCE_MS,
    OVERRUN_MS,
    PREPARE_MS,
    STARTED_MS,
    SUSPECT_MS,
)
from protocol.values.reasons import Release
from protocol.wire.envelope import Signed
from protocol.wire.messages import GONE, Heartbeat, LeaseQuery

S = TypeVar("S", bound=Watched)


def alive(state: S, context: Context) -> S:
    """Return the state after a sign of life; no other bound of the lease moves."""
    deadline_ms = min(context.now_ms + SUSPECT_MS, bound_ms(state))
    return replace(state, deadline_ms=deadline_ms, liveness=Liveness(context.now_ms))


def bound_ms(state: Watched) -> int:
    """Return when the lease's phase is over, whatever signs of life come."""
    match state:
        case Deploying():
            return state.until_ms
        case Launching():
            return state.since_ms + state.away_ms + STARTED_MS
        case Executing():
            limit_ms = state.lease.workload.timeout_ms + OVERRUN_MS
            return state.since_ms + state.away_ms + limit_ms


def hear_answer(state: Watched, event: PeerAnswered, context: Context) -> Step:
    """Wait on: the provider is there."""
    return _wait_on(state, context)


def hear_launching(state: Launching, event: Signed[Heartbeat], context: Context) -> Step:
    """Wait on: the provider is about to start the container."""
    return _wait_on(state, context)


def _wait_on(state: Watched, context: Context) -> Step:
    if context.now_ms >= bound_ms(state):
        return lose(state, context)
    return alive(state, context), NOTHING


def compare(state: Watched, event: StateHeard, context: Context) -> Step:
    """Wait on if the provider still has the lease, and repeat what it has missed."""
    if event.state == GONE:
        why = "the provider no longer has the lease"
        return break_off(state, Release.FORGOTTEN, why, context)
    following, effects = _wait_on(state, context)
    return following, effects or repeat(state, event, context)


def suspect(state: Watched, event: PeerDisconnected, context: Context) -> Step:
    """Ask a provider whose last connection is closed whether it is there."""
    return (state, NOTHING) if state.liveness.asked else _ask(state, context)


def suspect_or_fence(state: Watched, event: DeadlineReached, context: Context) -> Step:
    """Ask a silent provider whether it is there; fence one that was asked, or is far too late.

    If our machine slept, no message could arrive: then its silence is counted from now.
    """
    if (awake := woken(state, context)) is not None:
        return awake, (save(awake),)
    if state.liveness.asked or context.now_ms >= bound_ms(state):
        return lose(state, context)
    return _ask(state, context)


def wait_isolated(state: Watched, event: Isolated, context: Context) -> Step:
    """Wait for our own network: only it is at fault. The time counts as our absence."""
    heard_ms = state.liveness.heard_ms or context.now_ms
    if context.now_ms - heard_ms >= LEASE_ABSENCE_MS:
        return lose(state, context)
    waiting = replace(state, deadline_ms=context.now_ms + CONFIRM_MS, liveness=Liveness(heard_ms))
    if isinstance(waiting, Deploying):
        return replace(waiting, until_ms=waiting.until_ms + CONFIRM_MS), NOTHING
    return replace(waiting, away_ms=waiting.away_ms + CONFIRM_MS), NOTHING


def lose(state: Watched, context: Context) -> Step:
    """Fence the lease: its provider fell silent or is far too late."""
    silent_ms = context.now_ms - (state.liveness.heard_ms or context.now_ms)
    reason = Release.SILENT
    why = f"the provider was silent for {silent_ms // 1000} s and does not answer"
    if context.now_ms >= bound_ms(state):
        match state:
            case Deploying():
                reason = Release.PREPARE_FAILED
                limit = f"in {PREPARE_MS // 60_000} minutes"
                why = f"the provider did not fetch image and inputs {limit}"
            case Launching():
                reason = Release.NOT_STARTED
                why = f"the provider did not start the job in {STARTED_MS // 1000} s"
            case Executing():
                reason = Release.OVERRUN
                limit = f"{OVERRUN_MS // 60_000} minutes after its time limit"
                why = f"the job was not over {limit}"
    return break_off(state, reason, why, context)


def _ask(state: Watched, context: Context) -> Step:
    lease = state.lease
    query = context.signer.sign(LeaseQuery((entry_of(state),)))
    until_ms = context.now_ms + CONFIRM_MS
    asked = replace(
        state, deadline_ms=min(until_ms, max(bound_ms(state), context.now_ms + 1)),
        liveness=replace(state.liveness, asked=True),
    )  # fmt: skip
    return asked, (ProbePeer(lease.provider, query.envelope, until_ms),)
