"""How many nodes a call lets bid: a share by lottery, and a few by name.

A lottery keeps the bidders few in a large network. Any number of records may be fake, so the share
follows from how many nodes answered earlier calls. In a very large network hardly any node that
answered before would be drawn: then some of them are invited, and the auction ends early with them.
Spec: specs/auction-messages.md#call.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from protocol.core.jobs import BlockKey
from protocol.rules.selection import invitation_of, is_invited
from protocol.values.bounded import keep_newest
from protocol.values.ids import CallId, PeerId
from protocol.values.limits import BIDDERS_WANTED, INVITED_MAX
from protocol.wire.messages import LOTTERY_ALL, Call

FIRST_BIDDERS_WANTED: Final = 256
"""About so many providers may bid on the first call of a demand."""
ANSWERING_WANTED: Final = 8
"""At least about so many nodes that answered before may bid: an auction ends early with them."""
DEMANDS_REMEMBERED: Final = 256
"""For so many demands it is known how many nodes answered."""
CALLS_COUNTED: Final = 2
"""So many calls of a demand count: of the newest, not all answers may have come."""


@dataclass(slots=True)
class _Counted:
    """How many nodes answered a call, of those that its lottery drew."""

    call: Call
    answers: int = 0

    @property
    def nodes(self) -> int:
        """How many would have answered if all had been drawn."""
        return self.answers * LOTTERY_ALL // self.call.lottery


class Turnout:
    """Counts the answers to recent calls, by demand."""

    def __init__(self) -> None:
        self._calls: dict[BlockKey, dict[CallId, _Counted]] = {}

    def lottery(self, key: BlockKey, answering: int, recorded: int, *, is_first: bool) -> int:
        """Return which share of the providers the next call for a demand draws, in millionths.

        `answering` is how many answered before and can serve the job, `recorded` how many have a
        suitable record. `is_first` says that no auction for this demand has ended yet.
        """
        counted = max((each.nodes for each in self._calls.get(key, {}).values()), default=0)
        if answering > BIDDERS_WANTED:
            share = LOTTERY_ALL * BIDDERS_WANTED // max(answering, recorded)
            share = max(share, LOTTERY_ALL * ANSWERING_WANTED // answering)
        elif is_first and recorded:
            share = LOTTERY_ALL * FIRST_BIDDERS_WANTED // recorded
        else:
            share = LOTTERY_ALL
        if counted > BIDDERS_WANTED:
            share = min(share, LOTTERY_ALL * BIDDERS_WANTED // counted)
        return min(max(1, share), LOTTERY_ALL)

    def note_call(self, key: BlockKey, call_id: CallId, call: Call) -> None:
        """Count the answers to a call from now on."""
        calls = self._calls.pop(key, {})
        calls[call_id] = _Counted(call)
        keep_newest(calls, CALLS_COUNTED)
        self._calls[key] = calls
        keep_newest(self._calls, DEMANDS_REMEMBERED)

    def hear(self, key: BlockKey, call_id: CallId, peer: PeerId) -> None:
        """Count the first answer of a node, unless it was invited."""
        counted = self._calls.get(key, {}).get(call_id)
        if counted and not is_invited(counted.call, peer):
            counted.answers += 1


def invitations(call: Call, answering: Sequence[PeerId]) -> tuple[bytes, ...]:
    """Return whom a call invites: nobody, if its lottery draws enough of those that answered."""
    drawn = call.lottery * len(answering) // LOTTERY_ALL
    if call.lottery == LOTTERY_ALL or drawn >= ANSWERING_WANTED:
        return ()
    # The nonce decides who is among them, and nobody knew it before.
    return tuple(sorted(invitation_of(call.nonce, peer) for peer in answering)[:INVITED_MAX])
