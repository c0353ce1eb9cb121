"""What a requester repeats when its provider has not taken the last step.

Spec: specs/survival.md#comparison. A repeated message has the same bytes: what it says follows from
the saved state. It is sent once; the next comparison repeats it again.
"""

from typing import Final

from protocol.machines.context import Context
from protocol.machines.effects import Effect, Send
from protocol.machines.inputs import StateHeard
from protocol.machines.requester.lease.states import (
    Deploying,
    Executing,
    Fetched,
    Launching,
    Lease,
    Live,
    Releasing,
)
from protocol.machines.table import NOTHING
from protocol.rules.metering import amount_of
from protocol.wire.messages import (
    ACTIVE,
    SERVING,
    WAITING,
    Deploy,
    LeaseEntry,
    LeaseRelease,
    Message,
    Start,
    Voucher,
)

STATE_NUMBERS: Final[dict[type, int]] = {
    Deploying: 1, Launching: 2, Executing: 3, Fetched: 4, Releasing: 5,
}  # fmt: skip
"""The numbers on the wire of a requester's states."""


def entry_of(state: Live) -> LeaseEntry:
    """Return how we see a lease, for its provider."""
    vouchers = state.vouchers if isinstance(state, Executing) else 0
    return LeaseEntry(state.lease.lease_id, STATE_NUMBERS[type(state)], vouchers)


def voucher_of(lease: Lease, sequence: int, usage_ms: int) -> Voucher:
    """Return the voucher for the usage of a lease so far."""
    amount = amount_of(lease.rate, usage_ms)
    return Voucher(lease.lease_id, lease.contract, sequence, usage_ms, amount)


def repeat(state: Live, heard: StateHeard, context: Context) -> tuple[Effect, ...]:
    """Return the message that the provider has missed, by how it sees the lease."""
    missed = _missed(state, heard)
    if missed is None:
        return NOTHING
    return (Send(state.lease.provider, context.signer.sign(missed).envelope, 0),)


def _missed(state: Live, heard: StateHeard) -> Message | None:
    lease = state.lease
    match state, heard.state:
        case Deploying(), n if n == ACTIVE:
            return Deploy(lease.lease_id, lease.workload)
        case Launching(), n if n == WAITING:
            return Start(lease.lease_id, lease.attempt)
        case Executing(paid_ms=paid_ms, vouchers=vouchers), n if n == SERVING:
            behind = heard.vouchers < vouchers
            return voucher_of(lease, vouchers, paid_ms) if behind else None
        case Releasing(), n if n <= SERVING:
            return LeaseRelease(lease.lease_id, state.reason)
    return None
