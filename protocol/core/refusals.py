"""Why this node did not serve the calls that it heard lately, for its owner.

Spec: specs/owner.md#refusals. In memory only, and bounded: strangers cause refusals.
"""

from dataclasses import dataclass

from protocol.core.presence import record_of
from protocol.machines.context import Context
from protocol.rules.matching import (
    demand_of_call,
    mismatches,
    sentence_of_own_mismatch,
    sentence_of_own_refusal,
)
from protocol.rules.owner_rules import objection
from protocol.values.bounded import keep_newest
from protocol.values.ids import PeerId
from protocol.values.reasons import Mismatch, Refusal
from protocol.wire.envelope import Signed
from protocol.wire.messages import Call


@dataclass(frozen=True, slots=True)
class OwnRefusal:
    """Calls of one requester that were refused by one rule."""

    at_ms: int
    """When the last of them came."""
    requester: PeerId
    rule: str
    why: str
    """What the last of them wanted, and what this node allows."""
    count: int


class Refusals:
    """The newest refusals, one entry for each requester and rule."""

    def __init__(self, most: int) -> None:
        """Keep so many; none if it is 0."""
        self._most = most
        self._known: dict[tuple[PeerId, str], OwnRefusal] = {}

    def newest(self) -> tuple[OwnRefusal, ...]:
        """Return all entries, the newest first."""
        return tuple(reversed(self._known.values()))

    def note(self, requester: PeerId, rule: str, why: str, context: Context) -> None:
        """Note that a call was refused."""
        if not self._most:
            return
        before = self._known.pop((requester, rule), None)
        count = before.count + 1 if before else 1
        self._known[requester, rule] = OwnRefusal(context.now_ms, requester, rule, why, count)
        keep_newest(self._known, self._most)

    def note_answer(self, event: Signed[Call], reason: Refusal, context: Context) -> None:
        """Note that a call was answered with a refusal."""
        rule, why = reason.name.lower(), sentence_of_own_refusal(reason)
        if reason is Refusal.POLICY:
            rule = objection(context.policy.rules, event.signer, event.message.image)
        self.note(event.signer, rule, why, context)

    def does_fit(self, event: Signed[Call], context: Context) -> bool:
        """Return whether a call fits this node's record; note why it does not."""
        policy, requester = context.policy, event.signer
        if policy.closed:
            self.note(requester, "closed", policy.closed, context)
            return False
        demand, record = demand_of_call(event.message), record_of(context, 1)
        for reason in mismatches(demand, context.signer.peer_id, record):
            if reason is Mismatch.PRICE:  # It may ask less than its list price.
                continue
            if self._most:  # Nobody reads the sentence otherwise.
                why = sentence_of_own_mismatch(reason, demand, record)
                self.note(requester, reason.value, why, context)
            return False
        return True
