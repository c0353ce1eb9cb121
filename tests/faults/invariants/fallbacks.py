"""L10: an auction awards a slot at most once to each bidder, and to a bounded number of them.

Spec: specs/auction.md#deciding.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from protocol.values.limits import FALLBACKS_MAX
from protocol.wire.messages import Award
from tests.faults.network import FaultyNetwork

NAME: Final = "L10 fallback ends"


def at_end(network: FaultyNetwork) -> Iterator[str]:
    winners: dict[object, dict[bytes, str]] = defaultdict(dict)
    for fact in network.history.sent:
        award = fact.signed.message
        if isinstance(award, Award):
            winners[award.call_id, award.slot][fact.signed.envelope] = fact.receiver
    for awarded in winners.values():
        if len(awarded) > len(set(awarded.values())):
            yield "one bidder got two awards of one slot"
        if len(awarded) > FALLBACKS_MAX:
            yield f"{len(awarded)} awards of one slot"
