"""Identifiers: each kind has its own type.

Spec: specs/identity.md.
"""

import hashlib
from functools import lru_cache
from typing import Final, NewType

PeerId = NewType("PeerId", str)
"""A peer's identity: the base58 text that libp2p derives from its Ed25519 public key."""
JobId = NewType("JobId", bytes)
"""16 random bytes chosen by the requester. Never on the wire before a lease."""
CallId = NewType("CallId", bytes)
"""The content id of a Call; it identifies the auction."""
LeaseId = NewType("LeaseId", bytes)
"""32 bytes that both sides derive from the award."""
ContentId = NewType("ContentId", bytes)
"""SHA-256 over the signed content of an envelope, its signature excluded."""
Digest = NewType("Digest", bytes)
"""SHA-256 of a blob's bytes."""

BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
ED25519_MULTIHASH: Final = b"\x00\x24\x08\x01\x12\x20"
"""Identity multihash of a protobuf-encoded Ed25519 public key, up to the key itself."""
LEASE_DOMAIN: Final = b"mutirao/lease/1\0"
NO_LEASE: Final = LeaseId(b"")
KEYS_REMEMBERED: Final = 4_096
"""The conversion between key and peer id takes as long as the rest of a message's admission."""


@lru_cache(maxsize=KEYS_REMEMBERED)
def peer_id_of(public_key: bytes) -> PeerId:
    """Return the peer id of an Ed25519 public key of 32 bytes (libp2p/specs, peer-ids)."""
    assert len(public_key) == 32
    number = int.from_bytes(ED25519_MULTIHASH + public_key)
    text = ""
    while number:
        number, digit = divmod(number, 58)
        text = BASE58[digit] + text
    return PeerId("1" + text)  # The leading zero byte of the multihash.


@lru_cache(maxsize=KEYS_REMEMBERED)
def public_key_of(peer_id: PeerId) -> bytes:
    """Return the public key inside a peer id; ValueError if the text is no such peer id."""
    number = 0
    for character in peer_id:
        digit = BASE58.find(character)
        if digit < 0 or len(peer_id) > 64:
            raise ValueError(f"not a peer id: {peer_id[:80]!r}")
        number = number * 58 + digit
    size = len(ED25519_MULTIHASH) + 32
    multihash = number.to_bytes(size) if number.bit_length() <= 8 * size else b""
    public_key = multihash[-32:]
    if not multihash.startswith(ED25519_MULTIHASH) or peer_id_of(public_key) != peer_id:
        raise ValueError(f"not an Ed25519 peer id: {peer_id[:80]!r}")
    return public_key


def lease_id_of(call_id: CallId, slot: int, attempt: int, offer: int, provider: PeerId) -> LeaseId:
    """Return the identifier of a lease; `attempt` is the slot's fencing token (specs/lease.md)."""
    place = b"".join(part.to_bytes(2) for part in (slot, attempt, offer))
    key = public_key_of(provider)
    return LeaseId(hashlib.sha256(LEASE_DOMAIN + call_id + place + key).digest())


def digest_of(data: bytes) -> Digest:
    """Return the SHA-256 of the bytes."""
    return Digest(hashlib.sha256(data).digest())
