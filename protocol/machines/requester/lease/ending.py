"""How a requester ends a lease, and what it has paid until then.

Spec: specs/lease.md#requester. The fence is saved and sent before another attempt begins.
"""

from protocol.machines.context import Context
from protocol.machines.effects import Save, Send
from protocol.machines.requester.lease.states import (
    Broken,
    Closed,
    Deploying,
    Executing,
    Fetched,
    MayRun,
    State,
    Step,
)
from protocol.values.limits import MESSAGE_MS
from protocol.values.reasons import FAILURE_OF, Release
from protocol.wire.messages import LeaseRelease


def save(state: State) -> Save:
    """Return the effect that saves the state, or deletes a lease that has ended."""
    ended = isinstance(state, Closed | Broken)
    return Save("requester-lease", state.lease.lease_id, None if ended else state)


def paid(state: Deploying | MayRun | Fetched) -> tuple[int, int]:
    """Return the number of vouchers that we have signed, and the usage that they cover."""
    return (state.vouchers, state.paid_ms) if isinstance(state, Executing | Fetched) else (0, 0)


def break_off(
    state: Deploying | MayRun | Fetched, reason: Release, why: str, context: Context
) -> Step:
    """End the lease for a reason, and tell its provider: later results are ignored."""
    lease = state.lease
    broken = Broken(lease, FAILURE_OF[reason], why, paid(state)[1])
    said = context.signer.sign(LeaseRelease(lease.lease_id, reason))
    until_ms = context.now_ms + 10 * MESSAGE_MS
    return broken, (save(broken), Send(lease.provider, said.envelope, until_ms))
