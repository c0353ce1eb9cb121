"""A9: each honest award carries what its winner needs to compute the rate again.

Spec: specs/auction.md#verification.
"""

from collections.abc import Iterator
from typing import Final

from protocol.values.reasons import Decline, Release
from protocol.wire.messages import AwardDecline, LeaseRelease
from tests.faults.network import FaultyNetwork

NAME: Final = "A9 the winner can check"


def at_end(network: FaultyNetwork) -> Iterator[str]:
    for fact in network.history.sent:
        match fact.signed.message:
            case AwardDecline(reason=Decline.EVIDENCE):
                yield "an honest award was declined for its evidence"
            case LeaseRelease(reason=Release.CONTRACT):
                yield "an honest contract was refused"
