"""What a container has used, as far as its provider can tell: its time stands still in a pause.

Spec: specs/lease.md#exposure. The sandbox pauses a container that has used its budget, on its own;
it lets it go on when it is given a larger one, and says so. Its own count is what is billed.
"""

from dataclasses import replace

from protocol.machines.context import Context
from protocol.machines.provider.lease.states import Serving
from protocol.values.limits import EXPOSURE_MS


def budget_ms(state: Serving) -> int:
    """Return how far the container may run, in ms of usage."""
    return state.paid_ms + EXPOSURE_MS


def used_ms(state: Serving, context: Context) -> int:
    """Return the usage until now, in ms, and no less than what is paid."""
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
    """Return the state with the usage that the sandbox says, of a container that runs."""
    started_ms = context.now_ms - usage_ms
    return replace(state, started_ms=started_ms, paused_since_ms=0, paused_at_ms=0)
