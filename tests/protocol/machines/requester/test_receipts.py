"""Receipts: the requester signs what is right and says what is wrong with the rest.

Spec: specs/lease.md#receipt.
"""

from dataclasses import replace

import pytest

from protocol.machines.requester.receipts import Bill, countersign
from protocol.rules.metering import amount_of
from protocol.values.ids import ContentId, LeaseId, digest_of
from protocol.wire.envelope import KeySigner, open_envelope
from protocol.wire.messages import Ready, Receipt
from tests.strategies import NETWORK, SIGNERS

REQUESTER, PROVIDER, STRANGER = SIGNERS[:3]
LEASE, CONTRACT = LeaseId(digest_of(b"lease")), ContentId(digest_of(b"contract"))
RATE, USAGE_MS = 5_001, 9_999
BILL = Bill(LEASE, CONTRACT, PROVIDER.peer_id, RATE, USAGE_MS, USAGE_MS, None)
RIGHT = Receipt(
    LEASE, CONTRACT, REQUESTER.peer_id, PROVIDER.peer_id, RATE, USAGE_MS,
    amount_of(RATE, USAGE_MS), 0, digest_of(b"outputs"),
)  # fmt: skip


def test_a_right_receipt_is_signed_as_it_is() -> None:
    signed, dispute = countersign(BILL, PROVIDER.sign(RIGHT).envelope, REQUESTER)
    assert dispute == ""
    opened = open_envelope(signed, REQUESTER.network_id, PROVIDER.peer_id)
    assert (opened.signer, opened.message) == (REQUESTER.peer_id, RIGHT)


@pytest.mark.parametrize(
    "wrong, dispute",
    [
        ({"lease_id": bytes(32)}, "the receipt is for another lease"),
        ({"contract": bytes(32)}, "the receipt is for another lease"),
        ({"payer": STRANGER.peer_id}, "the receipt is for another lease"),
        ({"payee": STRANGER.peer_id}, "the receipt is for another lease"),
        ({"rate": RATE + 1}, "the receipt is for another lease"),
        ({"usage_ms": USAGE_MS - 1}, "the receipt is for another lease"),
        ({"amount": RIGHT.amount + 1}, "the receipt's amount is not its usage at its rate"),
        ({"amount": RIGHT.amount - 1}, "the receipt's amount is not its usage at its rate"),
    ],
)
def test_a_wrong_receipt_is_disputed(wrong: dict[str, object], dispute: str) -> None:
    proposal = PROVIDER.sign(replace(RIGHT, **wrong)).envelope
    assert countersign(BILL, proposal, REQUESTER) == (b"", dispute)


def test_a_receipt_about_another_result_is_disputed() -> None:
    told = replace(BILL, result=(RIGHT.exit_code, RIGHT.outputs))
    proposal = PROVIDER.sign(RIGHT).envelope
    assert countersign(told, proposal, REQUESTER)[0]
    for other in ((1, RIGHT.outputs), (RIGHT.exit_code, digest_of(b"other"))):
        signed, dispute = countersign(replace(BILL, result=other), proposal, REQUESTER)
        assert (signed, dispute) == (b"", "the receipt is for another result")


def test_more_usage_than_time_has_passed_is_disputed() -> None:
    signed, dispute = countersign(
        replace(BILL, usage_ms_max=USAGE_MS - 1), PROVIDER.sign(RIGHT).envelope, REQUESTER
    )
    assert not signed
    assert dispute.endswith("9999 ms of 9998 ms")


@pytest.mark.parametrize(
    "proposal",
    [
        b"",
        b"\xff" * 100,
        STRANGER.sign(RIGHT).envelope,
        PROVIDER.sign(Ready(LEASE)).envelope,
        KeySigner(bytes([2]) * 32, NETWORK + "2").sign(RIGHT).envelope,
    ],
    ids=["nothing", "noise", "another signer", "another message", "another network"],
)
def test_what_is_no_receipt_of_the_provider_is_disputed(proposal: bytes) -> None:
    signed, dispute = countersign(BILL, proposal, REQUESTER)
    assert not signed
    assert dispute
