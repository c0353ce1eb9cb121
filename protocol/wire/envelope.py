"""Signed envelopes: signer, content, purpose and network of a message.

Spec: specs/identity.md#envelope. The signature covers domain, network, message number and body; it
is verified over the received bytes, never over a re-encoding. Verification follows libsodium's
rules: keys of small order and encodings that are not canonical are refused, because anybody can
produce "signatures" for a key of small order (RFC 8032 leaves this open; OpenSSL accepts them).
"""

import hashlib
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from protocol.values.errors import BadSignature, MalformedMessage
from protocol.values.ids import ContentId, PeerId, peer_id_of
from protocol.values.limits import ENVELOPE_BYTES_MAX
from protocol.wire.codec import decode, encode, pack, unpack
from protocol.wire.messages import BY_NUMBER, NUMBER_OF, Message

VERSION: Final = 1
SIGNATURE_DOMAIN: Final = b"mutirao/sig/1\0"
CONTENT_DOMAIN: Final = b"mutirao/id/1\0"
FIELD_PRIME: Final = 2**255 - 19
SMALL_ORDER_Y: Final = frozenset({
    0,
    1,
    FIELD_PRIME - 1,
    int.from_bytes(bytes.fromhex(
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little"),
    int.from_bytes(bytes.fromhex(
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"), "little"),
})  # fmt: skip
"""The y coordinates of the eight points whose order divides the cofactor."""

M = TypeVar("M", bound=Message)
M_co = TypeVar("M_co", bound=Message, covariant=True)


@dataclass(frozen=True, slots=True)
class Signed(Generic[M_co]):
    """A message with a verified signature, and the bytes that carried it."""

    signer: PeerId
    message: M_co
    envelope: bytes
    content_id: ContentId


class ByReference(bytes):
    """An envelope that never leaves its process: it carries the message itself, unencoded.

    Only simulations make them. Bytes that came from a peer never are of this class.
    """

    signer: PeerId
    message: Message
    content_id: ContentId

    @property
    def signed(self) -> Signed[Message]:
        return Signed(self.signer, self.message, self, self.content_id)


class Signer(Protocol):
    """Signs the messages of one node for one network."""

    @property
    def peer_id(self) -> PeerId: ...

    @property
    def network_id(self) -> bytes: ...

    def sign(self, message: M) -> Signed[M]:
        """Return the message in its envelope."""
        ...

    def secret(self, purpose: bytes, context: bytes) -> bytes:
        """Return 32 bytes that only this node can derive: unpredictable without randomness."""
        ...


class KeySigner:
    """Signs with the node's key (Ed25519, RFC 8032)."""

    def __init__(self, seed: bytes, network: str) -> None:
        """Take the 32-byte Ed25519 seed and the network's name."""
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self._seed = seed
        self.network_id = network_id(network)
        self.public_key = self._private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.peer_id = peer_id_of(self.public_key)

    def sign(self, message: M) -> Signed[M]:
        """Return the message in its envelope; ValueError if a field is out of bounds."""
        number, body = NUMBER_OF[type(message)], encode(message)
        signature = self._private.sign(_signed_bytes(self.network_id, number, body))
        envelope = pack([VERSION, number, self.public_key, body, signature])
        assert len(envelope) <= BY_NUMBER[number].bytes_max, f"{type(message).__name__} too large"
        identifier = _content_id(self.network_id, number, self.public_key, body)
        return Signed(self.peer_id, message, envelope, identifier)

    def secret(self, purpose: bytes, context: bytes) -> bytes:
        return hashlib.sha256(purpose + b"\0" + self._seed + context).digest()


def network_id(name: str) -> bytes:
    """Return the 8 bytes that separate one network's signatures from another's."""
    return hashlib.sha256(name.encode()).digest()[:8]


def open_envelope(data: bytes, network: bytes, sender: PeerId) -> Signed[Message]:
    """Return the verified message in the bytes, or blame the peer that sent them.

    Raises MalformedMessage if the bytes are not a message, BadSignature if it is not authentic.
    """
    if isinstance(data, ByReference):
        return data.signed
    if len(data) > ENVELOPE_BYTES_MAX:
        raise MalformedMessage(sender, "larger than any message")
    try:
        number, key, body, signature = _parts(unpack(data))
    except ValueError as error:
        raise MalformedMessage(sender, str(error)) from None
    route = BY_NUMBER.get(number)
    if route is None:
        raise MalformedMessage(sender, f"no message has the number {number}")
    if len(data) > route.bytes_max:
        raise MalformedMessage(sender, f"{route.message.__name__} is larger than it may be")
    if not verify(key, signature, _signed_bytes(network, number, body)):
        raise BadSignature(sender, f"{route.message.__name__} is not signed by its key")
    try:
        message = decode(route.message, body)
    except ValueError as error:
        raise MalformedMessage(sender, f"{route.message.__name__}: {error}") from None
    return Signed(peer_id_of(key), message, data, _content_id(network, number, key, body))


def reopen(data: bytes) -> Message:
    """Return the message of a stored envelope that we verified before.

    Its network may differ from ours: the owner may have moved the node to another network since.
    """
    if isinstance(data, ByReference):
        return data.message
    number, _, body, _ = _parts(unpack(data))
    return decode(BY_NUMBER[number].message, body)


def claims(data: bytes) -> tuple[type[Message], PeerId] | None:
    """Return the unverified message class and signer of an envelope; None if it is not one."""
    try:
        number, key, _, _ = _parts(unpack(data))
    except ValueError:
        return None
    route = BY_NUMBER.get(number)
    return None if route is None else (route.message, peer_id_of(key))


def verify(public_key: bytes, signature: bytes, data: bytes) -> bool:
    """Say whether the signature is authentic by libsodium's rules."""
    if len(signature) != 64 or not _is_sound(public_key) or _is_small_order(signature[:32]):
        return False
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True


def _is_sound(public_key: bytes) -> bool:
    y = int.from_bytes(public_key, "little") % 2**255
    return len(public_key) == 32 and y < FIELD_PRIME and y not in SMALL_ORDER_Y


def _is_small_order(point: bytes) -> bool:
    return int.from_bytes(point, "little") % 2**255 % FIELD_PRIME in SMALL_ORDER_Y


def _parts(plain: object) -> tuple[int, bytes, bytes, bytes]:
    match plain:
        case [int(version), int(number), bytes(key), bytes(body), bytes(signature)] if (
            # In Python True equals 1, but an envelope has only one encoding.
            type(version) is int and version == VERSION
            and type(number) is int and len(key) == 32 and len(signature) == 64
        ):  # fmt: skip
            return number, key, body, signature
        case _:
            raise ValueError("not an envelope")


def _signed_bytes(network: bytes, number: int, body: bytes) -> bytes:
    head = SIGNATURE_DOMAIN + network + number.to_bytes(2) + len(body).to_bytes(4)
    return head + body


def _content_id(network: bytes, number: int, key: bytes, body: bytes) -> ContentId:
    content = CONTENT_DOMAIN + network + number.to_bytes(2) + key + body
    return ContentId(hashlib.sha256(content).digest())
