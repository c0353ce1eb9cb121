"""L7: what is said once is repeated in the same bytes, also after a crash: nobody signs twice.

Spec: specs/core.md#outbox.
"""

from collections.abc import Iterator
from typing import Final

from protocol.wire import messages as wire
from protocol.wire.messages import Message
from tests.faults.network import FaultyNetwork

NAME: Final = "L7 the same bytes"
ONCE_PER_LEASE: Final = (
    wire.LeaseConfirm | wire.LeaseActive | wire.Deploy | wire.Ready | wire.Start | wire.Started
    | wire.PreemptNotice | wire.Completed | wire.Released | wire.Receipt
)  # fmt: skip
ONCE_PER_CALL: Final = wire.CommitSet | wire.Outcome


def at_end(network: FaultyNetwork) -> Iterator[str]:
    said: dict[object, bytes] = {}
    for fact in network.history.sent:
        message = fact.signed.message
        subject = _subject(message)
        if subject is not None:
            key = type(message), fact.node, subject
            if said.setdefault(key, fact.signed.envelope) != fact.signed.envelope:
                yield f"two {type(message).__name__}s of one subject"


def _subject(message: Message) -> object:
    """Return what a node may say once only; None if it may speak again."""
    match message:
        case wire.Award():
            return message.call_id, message.slot
        case wire.AwardAccept():
            return message.lease_id, message.award
        case wire.Voucher():
            return message.lease_id, message.sequence
        case wire.Checkpoint():
            return message.lease_id, message.sequence
        case wire.CapabilityRecord():
            return message.sequence
        case message if isinstance(message, ONCE_PER_LEASE):
            return message.lease_id
        case message if isinstance(message, ONCE_PER_CALL):
            return message.call_id
    return None
