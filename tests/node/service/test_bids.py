"""Answered calls as the API shows them. Spec: specs/bids.md."""

from dataclasses import replace

from node.service.bids import answered_call_view
from protocol.machines.answers import AnsweredCall, BidResult
from protocol.rules.fraud import Fraud
from protocol.values.ids import CallId, PeerId
from protocol.values.reasons import Refusal
from protocol.wire.job import Resources

BID = AnsweredCall(
    CallId(bytes(32)), 7, PeerId("p"), Resources(2, 64, 9, 1), 0, BidResult.LOST, "why", 277_778
)


def test_prices_are_an_hour_and_a_refusal_asks_nothing():
    view = answered_call_view(BID)
    assert (view.ask_hour, view.price_hour, view.result) == ("0.0000", "1.0000", "lost")
    assert (view.resources.cpus, view.resources.gpus, view.call) == (2, 1, "00" * 32)
    assert view.refusal is None
    busy = replace(BID, result=BidResult.REFUSED, price=0, refusal=Refusal.BUSY)
    refused = answered_call_view(busy)
    assert refused.proof is None
    assert (refused.ask_hour, refused.price_hour, refused.refusal) == (None, None, "busy")


def test_a_proof_is_named_by_its_file():
    cheated = replace(BID, result=BidResult.CHEATED, fraud=Fraud.WRONGLY_LOST)
    assert answered_call_view(cheated).proof == f"{'0' * 16}-wrongly-lost.proof"
