"""Fraud proofs: signed messages that together show anybody what a requester did.

Spec: specs/fraud.md. A proof needs nothing else: no connection, no state, no trust in its author.
It holds what the requester has signed, and a bid that the requester's own words bind.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Any, Final, TypeVar

from protocol.rules.verification import OpenedBid, award_fault, loss_fault, set_fault
from protocol.values.errors import InvalidProof, NothingProven, PeerFault
from protocol.values.ids import CallId, PeerId
from protocol.values.limits import PROOF_BYTES_MAX
from protocol.wire.codec import decode, encode
from protocol.wire.envelope import Signed, open_envelope
from protocol.wire.job import QUICK
from protocol.wire.messages import (
    NO_ID,
    Award,
    BidReveal,
    Call,
    CommitSet,
    Outcome,
)
from protocol.wire.schema import Bytes, Int, Key, Many

M = TypeVar("M", Call, CommitSet, BidReveal, Outcome, Award)


class Fraud(IntEnum):
    """What a proof proves."""

    EQUIVOCATION = 1
    WRONG_PRICE = 2
    WRONGLY_LOST = 3

    @property
    def code(self) -> str:
        """Its name for people and scripts."""
        return self.name.lower().replace("_", "-")


@dataclass(frozen=True, slots=True)
class FraudProof:
    """Signed messages of one auction, the Call first."""

    version: Annotated[int, Key(1), Int(1, 1)]
    network: Annotated[bytes, Key(2), Bytes(8, 8)]
    """The id of the network for which they are signed."""
    fraud: Annotated[int, Key(3), Int(min(Fraud), max(Fraud))]
    messages: Annotated[tuple[bytes, ...], Key(4), Many(Bytes(1, PROOF_BYTES_MAX), 4, 3)]
    """Their envelopes."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a proof shows."""

    fraud: Fraud
    requester: PeerId
    """Who is at fault."""
    bidder: PeerId | None
    """Whom it cheated; None if anybody."""
    call_id: CallId
    called_ms: int
    """When it called for bids, as it says."""
    network: bytes
    why: str


def prove(fraud: Fraud, network: bytes, *messages: bytes) -> tuple[bytes, Finding] | None:
    """Return a proof made of these envelopes and what it shows; None if they prove nothing."""
    # Plain bytes: what a simulation passes by reference proves nothing to anybody.
    proof = encode(FraudProof(1, network, fraud, tuple(map(bytes, messages))))
    try:
        return proof, verify(proof)
    except (InvalidProof, NothingProven):
        return None


def verify(data: bytes) -> Finding:
    """Return what a proof shows.

    Raises InvalidProof if it is no proof or was altered, NothingProven if its messages are
    authentic but show no fraud.
    """
    proof, messages = _opened(data)
    call = _typed(messages[0], Call)
    fraud = Fraud(proof.fraud)
    bidder, why = _RULES[fraud](proof, call, messages[1:])
    at = CallId(call.content_id), call.message.issued_ms
    return Finding(fraud, call.signer, bidder, *at, proof.network, why)


def _opened(data: bytes) -> tuple[FraudProof, list[Signed[Any]]]:
    """Return a proof and its messages, all of them authentic."""
    if len(data) > PROOF_BYTES_MAX:
        raise InvalidProof(f"a proof has at most {PROOF_BYTES_MAX} bytes")
    try:
        proof = decode(FraudProof, data)
        nobody = PeerId("")
        return proof, [open_envelope(each, proof.network, nobody) for each in proof.messages]
    except ValueError as error:
        raise InvalidProof(f"not a proof: {error}") from None
    except PeerFault as fault:
        raise InvalidProof(f"a message of the proof is not authentic: {fault.why}") from None


def _equivocation(
    _: FraudProof, call: Signed[Call], told: Sequence[Signed[Any]]
) -> tuple[None, str]:
    one, other = _exactly(2, told)
    kind = type(one.message)
    if kind not in {CommitSet, Outcome} or type(other.message) is not kind:
        raise NothingProven("an equivocation consists of two sets or two outcomes")
    for each in (one, other):
        _same_auction(call, each, call.signer)
    if one.content_id == other.content_id:
        raise NothingProven("both messages are the same")
    name = "sets of commitments" if kind is CommitSet else "outcomes"
    return None, f"the requester signed two different {name} for one auction"


def _wrong_price(
    proof: FraudProof, call: Signed[Call], told: Sequence[Signed[Any]]
) -> tuple[PeerId, str]:
    bid = _bid(call, told[:-1])
    award = _typed(told[-1], Award)
    _same_auction(call, award, call.signer)
    if award.message.bid != bid.reveal.content_id:
        raise NothingProven("the award is for another bid")
    if award.message.offer:
        # What it displaces depends on failures of others, which nobody else has seen.
        raise NothingProven("the award replaces a winner that failed")
    why = award_fault(bid, award.message, proof.network)
    if not why:
        raise NothingProven("the award follows the rules")
    return bid.bidder, why


def _wrongly_lost(
    _: FraudProof, call: Signed[Call], told: Sequence[Signed[Any]]
) -> tuple[PeerId, str]:
    bid = _bid(call, told[:-1])
    outcome = _typed(told[-1], Outcome)
    _same_auction(call, outcome, call.signer)
    why = loss_fault(bid, outcome.message)
    if not why:
        raise NothingProven("by this outcome the bid rightly lost")
    return bid.bidder, why


_RULES: Final[dict[Fraud, Callable[..., tuple[PeerId | None, str]]]] = {
    Fraud.EQUIVOCATION: _equivocation,
    Fraud.WRONG_PRICE: _wrong_price,
    Fraud.WRONGLY_LOST: _wrongly_lost,
}


def _bid(call: Signed[Call], told: Sequence[Signed[Any]]) -> OpenedBid:
    """Return the bid that was opened: by its reveal, in Profile V after the set that holds it."""
    if call.message.profile == QUICK:
        (reveal,) = _exactly(1, told)
        return _bound(OpenedBid(call, None, _typed(reveal, BidReveal)))
    closed, reveal = _exactly(2, told)
    commit_set = _typed(closed, CommitSet)
    _same_auction(call, commit_set, call.signer)
    if why := set_fault(commit_set.message):
        raise NothingProven(why)
    return _bound(OpenedBid(call, commit_set, _typed(reveal, BidReveal)))


def _bound(bid: OpenedBid) -> OpenedBid:
    """Return a bid that its set binds."""
    _same_auction(bid.call, bid.reveal, bid.bidder)
    held = bid.commit_set
    if bid.reveal.message.commit_set != (held.content_id if held else NO_ID):
        raise NothingProven("the bid was opened to another set")
    if held and bid.commitment not in held.message.commitments:
        raise NothingProven("the set does not contain the bid")
    return bid


def _same_auction(call: Signed[Call], other: Signed[Any], signer: PeerId) -> None:
    if (other.message.call_id, other.signer) != (call.content_id, signer):
        raise NothingProven("the messages are not of one auction and its requester")


def _typed(signed: Signed[Any], kind: type[M]) -> Signed[M]:
    if not isinstance(signed.message, kind):
        raise NothingProven(f"the {kind.__name__} is missing")
    return signed


def _exactly(count: int, told: Sequence[Signed[Any]]) -> Sequence[Signed[Any]]:
    if len(told) != count:
        raise NothingProven("a message is missing, or there is one too many")
    return told
