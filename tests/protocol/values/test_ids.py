"""Identifiers: peer ids as libp2p derives them, lease ids that name one place in one auction.

Spec: specs/identity.md.
"""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from libp2p.crypto.ed25519 import Ed25519PublicKey
from libp2p.peer.id import ID

from protocol.values.ids import (
    BASE58,
    CallId,
    PeerId,
    digest_of,
    lease_id_of,
    peer_id_of,
    public_key_of,
)
from tests.strategies import SIGNERS

KEYS = st.binary(min_size=32, max_size=32)
PEER = SIGNERS[0].peer_id


@given(KEYS)
def test_peer_ids_go_both_ways(key: bytes) -> None:
    assert public_key_of(peer_id_of(key)) == key


@pytest.mark.parametrize("signer", SIGNERS, ids=lambda signer: signer.peer_id[-6:])
def test_peer_ids_are_those_of_libp2p(signer: object) -> None:
    key = Ed25519PublicKey.from_bytes(signer.public_key)
    assert ID.from_pubkey(key).to_base58() == signer.peer_id


@given(st.text(st.sampled_from(BASE58), max_size=70))
def test_other_texts_are_no_peer_ids(text: str) -> None:
    with pytest.raises(ValueError, match="peer id"):
        public_key_of(PeerId(text))


@pytest.mark.parametrize(
    "text",
    ["", "1", PEER[:-1], PEER + "1", "1" + PEER, PEER[1:], PEER.replace("K", "0"), "é" * 52,
     "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N", "z" * 100_000],
)  # fmt: skip
def test_what_looks_like_a_peer_id_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="peer id"):
        public_key_of(PeerId(text))


def test_a_lease_id_names_one_place_in_one_auction() -> None:
    calls = [CallId(bytes(32)), CallId(bytes([1]) * 32)]
    numbers = [0, 1, 65_535]
    peers = [signer.peer_id for signer in SIGNERS[:2]]
    places = list(itertools.product(calls, numbers, numbers, numbers, peers))
    assert len({lease_id_of(*place) for place in places}) == len(places)


def test_a_digest_is_sha256() -> None:
    assert digest_of(b"").hex().startswith("e3b0c44298fc1c14")
