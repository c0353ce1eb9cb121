"""L8: an old message that comes once more, when all has ended, changes nothing.

Spec: specs/core.md#outbox. Late copies of messages in all other states are part of the run.
"""

from collections.abc import Iterator
from typing import Final

from protocol.machines import effects
from protocol.machines.effects import Effect
from protocol.wire.messages import Call, CapabilityRecord
from tests.faults.network import FaultyNetwork

NAME: Final = "L8 replay changes nothing"


def at_end(network: FaultyNetwork) -> Iterator[str]:
    arrived = {(fact.receiver, fact.signed.envelope): fact.signed for fact in network.history.sent}
    for (receiver, _), signed in arrived.items():
        node = network.peer(receiver)
        # An old call is stale, and records have their own order.
        if not node.online or isinstance(signed.message, Call | CapabilityRecord):
            continue
        for effect in node.core.handle(signed, network.now_ms - node.behind_ms):
            if _matters(effect):
                name = type(signed.message).__name__
                yield f"an old {name} leads to {type(effect).__name__}"


def _matters(effect: Effect) -> bool:
    """Return whether an effect does more than answer."""
    answers = isinstance(effect, effects.Send) and not effect.in_outbox
    return not (answers or isinstance(effect, effects.Progress | effects.Learn | effects.Reach))
