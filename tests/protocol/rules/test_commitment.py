"""Commitments: binding, hiding, and nobody else's.

Spec: specs/auction.md#commitments.
"""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.rules.commitment import commitment_of
from protocol.values.ids import CallId
from protocol.wire.codec import encode
from protocol.wire.messages import Bid
from tests.strategies import SIGNERS, records

CALL, NONCE = CallId(bytes(32)), bytes([7]) * 32
PEER, OTHER = SIGNERS[0].peer_id, SIGNERS[1].peer_id
OPENINGS = st.tuples(
    st.sampled_from([CALL, CallId(NONCE)]), st.sampled_from([PEER, OTHER]), records(Bid),
    st.binary(min_size=32, max_size=32),
)  # fmt: skip


@given(OPENINGS, OPENINGS)
def test_a_commitment_binds_to_call_peer_bid_and_nonce(one: tuple, other: tuple) -> None:
    assert (commitment_of(*one) == commitment_of(*other)) == (one == other)


def test_the_layout_is_the_specified_one() -> None:
    bid = Bid(1, "a", 1, 10_000, 35_000, 0)
    content = b"mutirao/bid/1\0" + CALL + SIGNERS[0].public_key + encode(bid) + NONCE
    assert commitment_of(CALL, PEER, bid, NONCE) == hashlib.sha256(content).digest()


def test_a_nonce_has_32_bytes() -> None:
    with pytest.raises(AssertionError):
        commitment_of(CALL, PEER, Bid(1, "a", 1, 10_000, 35_000, 0), NONCE[1:])
