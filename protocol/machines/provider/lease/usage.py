"""A container's usage as its provider knows it; pauses do not count.

Spec: specs/lease.md#exposure. The sandbox pauses a container that has used its budget, and resumes
it and reports so when the budget grows. The sandbox's own count is billed.
"""

from collections.abc import Iterable
from dataclasses import replace

from protocol.machines.context import Context
from protocol.machines.provider.lease.states import Serving, State
from protocol.rules.metering import exposure_of
from protocol.values.ids import LeaseId


def budget_ms(state: Serving) -> int:
    """Return the container's budget, in ms of usage."""
    return state.paid_ms + exposure_of(state.paid_ms)


def used_ms(state: Serving, context: Context) -> int:
    """Return the usage until now, in ms, at least the paid usage."""
    if state.paused_since_ms:
        return state.paused_at_ms
    return min(budget_ms(state), max(state.paid_ms, context.now_ms - state.started_ms))


def note_pause(state: Serving, context: Context) -> Serving:
    """Return the state, paused if the container has used its budget."""
    spent = used_ms(state, context) >= budget_ms(state)
    if state.paused_since_ms or not spent:
        return state
    return replace(state, paused_since_ms=context.now_ms, paused_at_ms=budget_ms(state))


def note_usage(state: Serving, usage_ms: int, context: Context) -> Serving:
    """Return the state of a running container with the usage that the sandbox reports."""
    started_ms = context.now_ms - usage_ms
    return replace(state, started_ms=started_ms, paused_since_ms=0, paused_at_ms=0)


def shortest_left_ms(states: Iterable[State], context: Context) -> int:
    """Return in how long the first running job ends at the latest; 0 if none runs."""
    running = [state for state in states if isinstance(state, Serving)]
    lefts = [state.hold.usage_ms_max - used_ms(state, context) for state in running]
    return max(1, min(lefts)) if lefts else 0


def beyond_memory(states: Iterable[State], memory_mib: int) -> list[LeaseId]:
    """Return those paused longest that must end so that the others hold at most so much memory."""
    paused = [state for state in states if isinstance(state, Serving)]
    held_mib = sum(state.hold.resources.memory_mib for state in paused)
    ending = []
    for state in sorted(paused, key=lambda state: state.paused_since_ms):
        if held_mib <= memory_mib:
            break
        held_mib -= state.hold.resources.memory_mib
        ending.append(state.hold.lease_id)
    return ending
