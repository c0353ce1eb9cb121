"""A2, A3, A13: a winner gets at least its ask and at most the call's highest rate; quick, its ask.

Spec: specs/auction.md#pricing.
"""

from collections.abc import Iterator
from typing import Final

from protocol.values.ids import CallId, PeerId
from protocol.wire.job import QUICK
from protocol.wire.messages import Award, BidReveal, Call
from tests.faults.network import FaultyNetwork

NAME: Final = "A2 rate between ask and cap"


def at_end(network: FaultyNetwork) -> Iterator[str]:
    calls: dict[CallId, Call] = {}
    asks: dict[tuple[CallId, PeerId], int] = {}
    for fact in network.history.sent:
        match fact.signed.message:
            case Call() as call:
                calls[CallId(fact.signed.content_id)] = call
            case BidReveal(call_id, _, bid):
                asks[call_id, fact.node] = bid.ask
            case Award() as award:
                call, ask = calls[award.call_id], asks[award.call_id, fact.receiver]
                if not ask <= award.rate <= call.rate_max:
                    yield f"{award.rate} for an ask of {ask} and at most {call.rate_max}"
                if call.profile == QUICK and award.rate != ask:
                    yield f"a quick winner that asked {ask} gets {award.rate}"
