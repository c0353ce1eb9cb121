"""What a provider repeats when its requester has not taken the last step.

Spec: specs/survival.md#comparison. A repeated message has the same bytes, and is sent once: the
next comparison repeats it again.
"""

from typing import Final

from protocol.machines.context import Context
from protocol.machines.effects import Send
from protocol.machines.inputs import StateHeard
from protocol.machines.provider.lease.states import (
    Active,
    Held,
    Leaving,
    Preparing,
    Serving,
    Settling,
    State,
    Step,
    Stopping,
    Waiting,
)
from protocol.machines.table import NOTHING
from protocol.wire.messages import (
    ACTIVE,
    DEPLOYING,
    FETCHED,
    LAUNCHING,
    SERVING,
    WAITING,
    LeaseEntry,
    Ready,
    Started,
)

STATE_NUMBERS: Final[dict[type, int]] = {
    Held: 1, Active: ACTIVE, Preparing: 3, Waiting: WAITING, Serving: SERVING, Stopping: 6,
    Settling: 7, Leaving: 8,
}  # fmt: skip
"""The numbers on the wire of a provider's states."""


def entry_of(state: State) -> LeaseEntry:
    """Return how we see a lease, for its requester."""
    vouchers = state.vouchers if isinstance(state, Serving) else 0
    return LeaseEntry(state.hold.lease_id, STATE_NUMBERS[type(state)], vouchers)


def repeat(state: Waiting | Serving | Settling, event: StateHeard, context: Context) -> Step:
    """Repeat the message that the requester has missed, by how it sees the lease."""
    hold, missed = state.hold, b""
    match state:
        case Waiting() if event.state == DEPLOYING:
            missed = context.signer.sign(Ready(hold.lease_id)).envelope
        case Serving(started=True) if event.state == LAUNCHING:
            missed = context.signer.sign(Started(hold.lease_id)).envelope
        case Settling() if event.state != FETCHED:
            missed = state.last_word
    return state, (Send(hold.requester, missed, 0),) if missed else NOTHING
