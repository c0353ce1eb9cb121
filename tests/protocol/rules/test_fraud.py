"""Fraud proofs: what they show, that no honest requester can be accused, and that no bit is spare.

Spec: specs/fraud.md.
"""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.rules.fraud import Fraud, FraudProof, prove, verify
from protocol.values.errors import InvalidProof, NothingProven
from protocol.values.limits import ENVELOPE_BYTES_MAX, PROOF_BYTES_MAX
from protocol.wire.codec import encode
from protocol.wire.envelope import KeySigner, Signed
from protocol.wire.job import QUICK
from protocol.wire.messages import (
    BY_NUMBER,
    NO_LOSER,
    NUMBER_OF,
    Award,
    BidReveal,
    Call,
    CommitSet,
    Outcome,
    Winner,
)
from tests.driven import START_MS
from tests.signed_auction import NONCE, REQUESTER, SignedAuction
from tests.strategies import SIGNERS

ROOT = Path(__file__).parent.parent.parent
GOLDEN = json.loads((ROOT / "vectors" / "messages.json").read_text())["proofs"]
golden = pytest.mark.parametrize("vector", GOLDEN, ids=[one["fraud"] for one in GOLDEN])
NETWORK = REQUESTER.network_id
BEN = SIGNERS[1].peer_id
THREE = SignedAuction([(30, 1), (50, 1), (70, 1)])
QUICKLY = SignedAuction([(30, 1), (50, 1)], profile=QUICK)
BID = THREE.bid(1)
assert BID.commit_set is not None
CALL, SET, REVEAL = BID.call.envelope, BID.commit_set.envelope, BID.reveal.envelope
AWARD: Award = THREE.awards()[0][1].message
OUTCOME: Outcome = THREE.outcome.message


def told(message: Any) -> bytes:
    return REQUESTER.sign(message).envelope


def proof(fraud: Fraud, *messages: bytes, network: bytes = NETWORK) -> bytes:
    return encode(FraudProof(1, network, fraud, messages))


def raw(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


# What is proven.

CHEAP = replace(AWARD, rate=29)
PASSED_OVER = replace(OUTCOME, winners=(Winner(SIGNERS[2].peer_id, 1),))
ELSEWHERE = SIGNERS[2].sign(replace(THREE.reveals[1].message, commit_set=NONCE)).envelope
OTHER_SET = replace(BID.commit_set.message, weights=())
PROVEN: list[tuple[Fraud, tuple[bytes, ...], str | None, str]] = [
    (Fraud.EQUIVOCATION, (CALL, SET, told(OTHER_SET)), None,
     "the requester signed two different sets of commitments for one auction"),
    (Fraud.EQUIVOCATION, (CALL, told(OUTCOME), told(PASSED_OVER)), None,
     "the requester signed two different outcomes for one auction"),
    (Fraud.WRONG_PRICE, (CALL, SET, REVEAL, told(CHEAP)), BEN,
     "the outcome names another price"),
    (Fraud.WRONG_PRICE, (CALL, SET, REVEAL, told(replace(AWARD, outcome=b"noise"))), BEN,
     "not canonical msgpack"),
    (Fraud.WRONG_PRICE, (CALL, SET, REVEAL, told(replace(AWARD, evidence=(ELSEWHERE,)))), BEN,
     "the bid that set the price was opened to another set"),
    (Fraud.WRONGLY_LOST, (CALL, SET, REVEAL, told(PASSED_OVER)), BEN,
     "the bid counts, has slots left and scores 30, but the outcome says that no bid below 50"),
    (Fraud.WRONGLY_LOST, (CALL, SET, REVEAL, told(replace(OUTCOME, commit_set=NONCE))), BEN,
     "the outcome is of another set"),
    (Fraud.WRONG_PRICE, (QUICKLY.call.envelope, QUICKLY.reveals[0].envelope,
     told(replace(QUICKLY.awards()[0][1].message, rate=31))), BEN, "the outcome names another"),
]  # fmt: skip


@pytest.mark.parametrize("fraud, messages, bidder, why", PROVEN)
def test_a_proof_shows_who_cheated_whom_when_and_how(
    fraud: Fraud, messages: tuple[bytes, ...], bidder: str | None, why: str
) -> None:
    made = prove(fraud, NETWORK, *messages)
    assert made is not None
    data, finding = made
    assert data == proof(fraud, *messages)
    assert verify(data) == finding
    assert (finding.fraud, finding.requester) == (fraud, REQUESTER.peer_id)
    assert (finding.bidder, finding.called_ms) == (bidder, START_MS)
    assert finding.why.startswith(why)


@golden
def test_the_golden_proofs_show_what_the_file_says(vector: dict[str, Any]) -> None:
    finding = verify(raw(vector["proof"]))
    assert finding.fraud.code == vector["fraud"]
    assert (finding.requester, finding.bidder) == (vector["requester"], vector["bidder"])
    assert (finding.call_id, finding.why) == (raw(vector["call_id"]), vector["why"])


def test_there_is_a_golden_proof_of_each_fraud() -> None:
    assert {one["fraud"] for one in GOLDEN} == {fraud.code for fraud in Fraud}


# What is not.


@golden
def test_a_proof_with_one_flipped_bit_is_refused(vector: dict[str, Any]) -> None:
    sound = raw(vector["proof"])
    for bit in range(8 * len(sound)):
        flipped = bytearray(sound)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises((InvalidProof, NothingProven)):
            verify(bytes(flipped))


@given(st.data())
def test_any_other_bytes_are_refused(data: st.DataObject) -> None:
    sound = raw(data.draw(st.sampled_from(GOLDEN))["proof"])
    cut = data.draw(st.integers(0, len(sound) - 1))
    more = data.draw(st.binary(min_size=1, max_size=8))
    for other in (sound[:cut], sound + more, more):
        with pytest.raises(InvalidProof):
            verify(other)


LATER = SignedAuction([(30, 1), (50, 1), (70, 1)], nonce=1)
UNSORTED = replace(BID.commit_set.message, commitments=BID.commit_set.message.commitments[::-1])
NOTHING: list[tuple[Fraud, tuple[bytes, ...], str]] = [
    (Fraud.WRONG_PRICE, (CALL, SET, REVEAL, told(AWARD)), "the award follows the rules"),
    (Fraud.WRONG_PRICE, (CALL, SET, REVEAL, told(replace(CHEAP, bid=NONCE))),
     "the award is for another bid"),
    (Fraud.WRONG_PRICE, (CALL, SET, REVEAL, told(replace(CHEAP, offer=1))),
     "the award replaces a winner that failed"),
    (Fraud.WRONG_PRICE, (CALL, SET, REVEAL, SIGNERS[2].sign(CHEAP).envelope),
     "the messages are not of one auction and its requester"),
    (Fraud.WRONG_PRICE, (CALL, REVEAL, told(CHEAP)), "a message is missing"),
    (Fraud.WRONG_PRICE, (CALL, SET, REVEAL, told(PASSED_OVER)), "the Award is missing"),
    (Fraud.WRONG_PRICE, (SET, SET, REVEAL, told(CHEAP)), "the Call is missing"),
    (Fraud.WRONGLY_LOST, (CALL, SET, REVEAL, told(OUTCOME)), "by this outcome the bid rightly"),
    (Fraud.WRONGLY_LOST, (CALL, told(UNSORTED), REVEAL, told(PASSED_OVER)), "the set is not"),
    (Fraud.WRONGLY_LOST, (CALL, told(OTHER_SET), REVEAL, told(PASSED_OVER)),
     "the bid was opened to another set"),
    (Fraud.WRONGLY_LOST, (LATER.call.envelope, SET, REVEAL, told(PASSED_OVER)),
     "the messages are not of one auction and its requester"),
    (Fraud.WRONGLY_LOST, (CALL, SET, SIGNERS[5].sign(BID.reveal.message).envelope,
     told(PASSED_OVER)), "the set does not contain the bid"),
    (Fraud.WRONGLY_LOST, (CALL, SET, SIGNERS[1].sign(replace(BID.reveal.message,
     bid=replace(BID.reveal.message.bid, ask=1))).envelope, told(PASSED_OVER)),
     "the set does not contain the bid"),
    (Fraud.WRONGLY_LOST, (CALL, SIGNERS[2].sign(BID.commit_set.message).envelope, REVEAL,
     told(PASSED_OVER)), "the messages are not of one auction and its requester"),
    (Fraud.WRONGLY_LOST, (QUICKLY.call.envelope, QUICKLY.reveals[1].envelope,
     told(replace(QUICKLY.outcome.message, losing_score=NO_LOSER))), "by this outcome"),
    (Fraud.EQUIVOCATION, (CALL, SET, SET), "both messages are the same"),
    (Fraud.EQUIVOCATION, (CALL, SET, told(OUTCOME)), "an equivocation consists of two sets or"),
    (Fraud.EQUIVOCATION, (CALL, told(AWARD), told(CHEAP)), "an equivocation consists of two sets"),
    (Fraud.EQUIVOCATION, (CALL, SET, SIGNERS[2].sign(OTHER_SET).envelope),
     "the messages are not of one auction and its requester"),
    (Fraud.EQUIVOCATION, (CALL, SET, told(OTHER_SET), SET), "a message is missing, or there is"),
]  # fmt: skip


@pytest.mark.parametrize("fraud, messages, why", NOTHING)
def test_messages_that_prove_nothing_are_refused_with_a_reason(
    fraud: Fraud, messages: tuple[bytes, ...], why: str
) -> None:
    assert prove(fraud, NETWORK, *messages) is None
    with pytest.raises(NothingProven) as refused:
        verify(proof(fraud, *messages))
    assert str(refused.value).startswith(why)


@pytest.mark.parametrize("data, why", [
    (b"", "not a proof: not canonical msgpack"),
    (bytes(PROOF_BYTES_MAX + 1), f"a proof has at most {PROOF_BYTES_MAX} bytes"),
    (CALL, "not a proof: expected a map"),
    (proof(Fraud.EQUIVOCATION, CALL, SET, b"noise"), "a message of the proof is not authentic"),
    (proof(Fraud.EQUIVOCATION, CALL, SET, told(OTHER_SET), network=bytes(8)),
     "a message of the proof is not authentic: Call is not signed by its key"),
])  # fmt: skip
def test_what_is_no_proof_is_refused_with_a_reason(data: bytes, why: str) -> None:
    with pytest.raises(InvalidProof) as refused:
        verify(data)
    assert str(refused.value).startswith(why)


@given(
    st.lists(st.tuples(st.integers(0, 120), st.integers(1, 4)), min_size=1, max_size=7),
    st.integers(1, 6),
    st.sampled_from(Fraud),
)
def test_an_honest_requester_cannot_be_accused(
    bids: list[tuple[int, int]], slots: int, fraud: Fraud
) -> None:
    """Whatever messages of an honest auction, or of two, are put together."""
    auction = SignedAuction(bids, slots=slots, nonce=1)
    assert auction.commit_set is not None
    last = [THREE.outcome, auction.outcome, *(award for _, award in auction.awards())]
    messages = (auction.commit_set, *last)
    for one in messages:
        assert prove(fraud, NETWORK, auction.call.envelope, one.envelope, SET) is None
    for number in range(1, len(bids) + 1):
        bid = (auction.call, auction.commit_set, auction.reveals[number - 1])
        for one in last:
            assert prove(fraud, NETWORK, *envelopes((*bid, one))) is None


def envelopes(messages: Iterable[Signed[Any]]) -> tuple[bytes, ...]:
    return tuple(each.envelope for each in messages)


def test_the_largest_proof_has_room() -> None:
    parts = (Call, CommitSet, BidReveal, Award)
    largest = sum(BY_NUMBER[NUMBER_OF[part]].bytes_max for part in parts)
    assert largest + 64 <= PROOF_BYTES_MAX < ENVELOPE_BYTES_MAX


def test_another_network_is_another_auction() -> None:
    abroad = KeySigner(bytes([1]) * 32, "abroad")
    signed = tuple(
        abroad.sign(each).envelope for each in (THREE.call.message, OUTCOME, PASSED_OVER)
    )
    assert prove(Fraud.EQUIVOCATION, NETWORK, *signed) is None
    assert prove(Fraud.EQUIVOCATION, abroad.network_id, *signed) is None, "the call's id differs"
