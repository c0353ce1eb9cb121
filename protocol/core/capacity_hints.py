"""Hints to requesters that were refused as busy, once there is capacity for them.

Spec: specs/auction-messages.md#capacity-free.
"""

from protocol.machines.context import Context
from protocol.machines.effects import Effect, Send
from protocol.rules.capacity import Capacity, reserve
from protocol.values.bounded import keep_newest
from protocol.values.ids import CallId, PeerId
from protocol.values.limits import HINTED_MAX, HINTS_MAX
from protocol.wire.job import Resources
from protocol.wire.messages import CapacityFree


class CapacityHints:
    """The requesters that a provider refused as busy lately."""

    def __init__(self) -> None:
        self._refused: dict[tuple[PeerId, Resources], CallId] = {}
        """The last refused call of each requester and demand, the oldest first."""

    def refuse(self, requester: PeerId, wanted: Resources, call_id: CallId) -> None:
        """Remember a call that was refused as busy."""
        self._refused[requester, wanted] = call_id
        keep_newest(self._refused, HINTS_MAX)

    def tell(self, free: Capacity, context: Context) -> list[Effect]:
        """Tell some of those for whom there is capacity now, once each."""
        effects: list[Effect] = []
        for (requester, wanted), call_id in list(self._refused.items()):
            if len(effects) < HINTED_MAX and reserve(free, wanted) is not None:
                del self._refused[requester, wanted]
                hint = context.signer.sign(CapacityFree(call_id))
                effects.append(Send(requester, hint.envelope, 0))
        return effects
