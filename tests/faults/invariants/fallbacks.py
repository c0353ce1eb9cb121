"""L10: each award goes to one bidder, and an auction replaces a bounded number of slots.

Spec: specs/auction.md#deciding.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from protocol.values.ids import PeerId
from protocol.values.limits import FALLBACKS_MAX
from protocol.wire.messages import Award
from tests.faults.network import FaultyNetwork

NAME: Final = "L10 fallback ends"


def at_end(network: FaultyNetwork) -> Iterator[str]:
    bidders: dict[object, set[PeerId]] = defaultdict(set)
    for fact in network.history.sent:
        award = fact.signed.message
        if isinstance(award, Award):
            bidders[award.call_id, award.slot].add(fact.receiver)
            if award.offer > FALLBACKS_MAX:
                yield f"{award.offer} slots of an auction were replaced"
    if any(len(awarded) > 1 for awarded in bidders.values()):
        yield "one award went to two bidders"
