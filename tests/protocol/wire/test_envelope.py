"""Envelopes: what is signed is what is read, by libsodium's rules.

Spec: specs/identity.md#envelope.
"""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.exceptions import CryptoError
from nacl.signing import VerifyKey

from protocol.core.core import Core
from protocol.core.intake import admit
from protocol.machines.context import Policy
from protocol.machines.inputs import PolicyChanged
from protocol.values.errors import BadSignature, MalformedMessage, PeerFault
from protocol.values.ids import ContentId, digest_of
from protocol.values.limits import ENVELOPE_BYTES_MAX
from protocol.wire.codec import pack, unpack
from protocol.wire.envelope import (
    FIELD_PRIME,
    SMALL_ORDER_Y,
    ByReference,
    KeySigner,
    M,
    Signed,
    Signer,
    claims,
    network_id,
    open_envelope,
    reopen,
    verify,
)
from protocol.wire.messages import BY_NUMBER, NUMBER_OF, Carrier, Heartbeat, Message, Ready
from tests.edwards import BASE, ORDER, add, encoded, forged, times, torsion
from tests.strategies import NETWORK, SIGNERS, messages

SIGNER = SIGNERS[0]
STRANGER = SIGNERS[1].peer_id
NETWORK_ID = network_id(NETWORK)
READY = SIGNER.sign(Ready(bytes(32)))
TORSION = torsion()


def sodium(key: bytes, signature: bytes, data: bytes) -> bool:
    """Ask the oracle."""
    try:
        VerifyKey(key).verify(data, signature)
    except CryptoError:
        return False
    return True


def refused(data: bytes) -> PeerFault:
    with pytest.raises(PeerFault) as caught:
        open_envelope(data, NETWORK_ID, STRANGER)
    assert caught.value.peer == STRANGER
    return caught.value


@given(messages())
def test_what_is_signed_is_what_is_read(message: Message) -> None:
    try:
        signed = SIGNER.sign(message)
    except AssertionError:  # Larger than its row of the wire table allows.
        return
    assert open_envelope(signed.envelope, NETWORK_ID, STRANGER) == Signed(
        SIGNER.peer_id, message, signed.envelope, signed.content_id
    )


@given(st.binary(max_size=400))
def test_any_bytes_are_a_message_or_a_fault(data: bytes) -> None:
    assert isinstance(refused(data), MalformedMessage)


@given(st.integers(0, len(READY.envelope) - 1), st.integers(1, 255))
def test_any_change_of_a_byte_is_refused(place: int, change: int) -> None:
    data = bytearray(READY.envelope)
    data[place] ^= change
    refused(bytes(data))


@given(st.integers(0, len(READY.envelope) - 1))
def test_any_cut_is_refused(length: int) -> None:
    assert isinstance(refused(READY.envelope[:length]), MalformedMessage)


@given(st.data())
def test_well_signed_nonsense_is_malformed(data: st.DataObject) -> None:
    number = data.draw(st.sampled_from(sorted(BY_NUMBER)))
    body = data.draw(st.binary(max_size=100))
    envelope = sealed(SIGNER, number, body)
    try:
        signed = open_envelope(envelope, NETWORK_ID, STRANGER)
    except MalformedMessage:
        return
    assert NUMBER_OF[type(signed.message)] == number


def sealed(signer: Signer, number: int, body: bytes) -> bytes:
    head = b"mutirao/sig/1\0" + signer.network_id + number.to_bytes(2) + len(body).to_bytes(4)
    signature = signer._private.sign(head + body)
    return pack([1, number, signer.public_key, body, signature])


def test_the_layout_is_the_specified_one() -> None:
    number = NUMBER_OF[Ready]
    assert sealed(SIGNER, number, pack({1: bytes(32)})) == READY.envelope


@pytest.mark.parametrize("version", [0, 2, True, "1", [1]], ids=repr)
def test_another_version_is_refused(version: object) -> None:
    _, *rest = unpack(READY.envelope)
    assert refused(pack([version, *rest])).why == "not an envelope"


@pytest.mark.parametrize("number", [0, -1, 0x70, 65_536, 2**63 - 1, True])
def test_an_unknown_number_is_refused(number: int) -> None:
    version, _, *rest = unpack(READY.envelope)
    assert isinstance(refused(pack([version, number, *rest])), MalformedMessage)


def test_a_signature_holds_for_one_message_kind_only() -> None:
    version, number, key, body, signature = unpack(READY.envelope)
    started = pack([version, number + 2, key, body, signature])
    assert isinstance(refused(started), BadSignature)


def test_a_signature_holds_on_one_network_only() -> None:
    with pytest.raises(BadSignature, match="Ready is not signed"):
        open_envelope(READY.envelope, network_id("another"), STRANGER)


def test_a_signature_holds_for_one_signer_only() -> None:
    version, number, _, body, signature = unpack(READY.envelope)
    refused(pack([version, number, SIGNERS[1].public_key, body, signature]))


def test_sizes_are_checked_before_anything_else() -> None:
    assert refused(bytes(ENVELOPE_BYTES_MAX + 1)).why == "larger than any message"
    body = pack({1: bytes(32), 2: 0, 3: 1, 4: 0, 65: bytes(200)})
    large = sealed(SIGNER, NUMBER_OF[Heartbeat], body)
    assert refused(large).why == "Heartbeat is larger than it may be"


def test_an_unknown_odd_extension_is_carried_and_an_even_one_refused() -> None:
    carried = sealed(SIGNER, NUMBER_OF[Ready], pack({1: bytes(32), 65: "new"}))
    opened = open_envelope(carried, NETWORK_ID, STRANGER)
    assert opened.message == READY.message
    assert opened.envelope == carried
    assert opened.content_id != READY.content_id
    refused(sealed(SIGNER, NUMBER_OF[Ready], pack({1: bytes(32), 64: "new"})))


def test_the_content_id_does_not_depend_on_the_signature() -> None:
    assert SIGNER.sign(Ready(bytes(32))).content_id == READY.content_id
    assert SIGNERS[1].sign(Ready(bytes(32))).content_id != READY.content_id


def test_a_secret_depends_on_key_purpose_and_context() -> None:
    secrets = {
        signer.secret(purpose, context)
        for signer in SIGNERS for purpose in (b"bid", b"call") for context in (b"a", b"b")
    }  # fmt: skip
    assert len(secrets) == 4 * len(SIGNERS)
    assert SIGNER.secret(b"bid", b"a") in secrets


def test_the_small_order_table_is_complete() -> None:
    assert {y for _, y in TORSION} == SMALL_ORDER_Y


def test_small_order_keys_sign_nothing() -> None:
    """OpenSSL takes a signature by the identity for any message; we and libsodium do not."""
    for point in TORSION:
        for number in range(8):
            message = bytes([number])
            signature = forged(point, times(number + 1, BASE), (0, number + 1), message)
            assert not verify(encoded(point), signature, message)
            assert not sodium(encoded(point), signature, message)


def test_nonces_of_small_order_are_refused() -> None:
    """With the identity as its nonce a signature fulfils the equation; libsodium refuses it."""
    secret = 12_345
    key = times(secret, BASE)
    for point in TORSION:
        signature = forged(key, point, (secret, 0), b"message")
        assert not verify(encoded(key), signature, b"message")
        assert not sodium(encoded(key), signature, b"message")


def test_encodings_that_are_not_canonical_are_refused() -> None:
    for y in range(19):  # The field's elements that have a second encoding in 255 bits.
        for sign in (0, 1 << 255):
            key = (y + FIELD_PRIME | sign).to_bytes(32, "little")
            # The base point and the scalar 1: what the identity, in a second encoding, would sign.
            signature = encoded(BASE) + (1).to_bytes(32, "little")
            assert not verify(key, signature, b"")
            assert not sodium(key, signature, b"")
            twice = key + bytes(32)
            assert not verify(SIGNER.public_key, twice, b"")
            assert not sodium(SIGNER.public_key, twice, b"")


def test_a_scalar_that_is_not_reduced_is_refused() -> None:
    version, number, key, body, signature = unpack(READY.envelope)
    scalar = int.from_bytes(signature[32:], "little") + ORDER
    malleated = signature[:32] + scalar.to_bytes(32, "little")
    refused(pack([version, number, key, body, malleated]))
    head = b"mutirao/sig/1\0" + NETWORK_ID + number.to_bytes(2) + len(body).to_bytes(4)
    assert sodium(key, signature, head + body)
    assert not sodium(key, malleated, head + body)


@pytest.mark.parametrize("part", range(8))
def test_keys_and_nonces_of_mixed_order_are_as_libsodium_has_them(part: int) -> None:
    dice = random.Random(part)
    verdicts = set()
    for attempt in range(16):
        a, r = dice.randrange(1, ORDER), dice.randrange(1, ORDER)
        key = add(times(a, BASE), TORSION[part])
        nonce = add(times(r, BASE), TORSION[attempt % 8])
        message = dice.randbytes(8)
        signature = forged(key, nonce, (a, r), message)
        verdict = verify(encoded(key), signature, message)
        assert verdict == sodium(encoded(key), signature, message)
        verdicts.add(verdict)
    assert False in verdicts


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=64, max_size=64))
def test_random_keys_are_as_libsodium_has_them(key: bytes, signature: bytes) -> None:
    assert verify(key, signature, b"data") == sodium(key, signature, b"data") is False


def test_what_an_envelope_claims_is_read_without_its_signature() -> None:
    version, number, key, body, signature = unpack(READY.envelope)
    assert claims(READY.envelope) == (Ready, READY.signer)
    assert claims(pack([version, number, key, body, bytes(64)])) == (Ready, READY.signer)
    assert claims(pack([version, 99_999, key, body, signature])) is None
    assert claims(pack([version, number, key[:-1], body, signature])) is None
    assert claims(READY.envelope[:-1]) is None


@given(st.binary(max_size=200))
def test_no_bytes_make_a_claim_fail(data: bytes) -> None:
    claims(data)


@given(st.binary(max_size=200))
def test_honest_signatures_pass(data: bytes) -> None:
    signature = SIGNER._private.sign(data)
    assert verify(SIGNER.public_key, signature, data)
    assert sodium(SIGNER.public_key, signature, data)
    assert not verify(SIGNER.public_key, signature[:-1], data)
    assert not verify(SIGNER.public_key[:-1], signature, data)


def by_reference(data: bytes = READY.envelope, message: Message = READY.message) -> ByReference:
    """Return an envelope as simulations make them: it says who signed what, and proves nothing."""
    envelope = ByReference(data)
    envelope.signer, envelope.message = STRANGER, message
    envelope.content_id = ContentId(bytes(32))
    return envelope


def test_an_envelope_within_a_process_is_the_message_itself() -> None:
    envelope = by_reference(b"nothing that could be decoded")
    opened = open_envelope(envelope, NETWORK_ID, SIGNER.peer_id)
    assert opened == Signed(STRANGER, READY.message, envelope, ContentId(bytes(32)))
    assert opened.message is READY.message
    assert reopen(envelope) is READY.message


@given(st.one_of(st.binary(max_size=300), st.just(bytes(by_reference()))))
def test_no_bytes_of_a_peer_are_an_envelope_by_reference(data: bytes) -> None:
    """What comes from the wire is plain bytes, and everything cut out of it is, too."""
    frame = bytes(bytearray(data))
    assert type(frame) is bytes
    assert type(unpack(pack([frame]))[0]) is bytes
    if data != READY.envelope:
        refused(frame)
    else:  # It says that a stranger signed it; its bytes say who did.
        assert open_envelope(frame, NETWORK_ID, STRANGER).signer == SIGNER.peer_id


@given(messages())
def test_no_field_of_a_message_from_the_wire_is_one_by_reference(message: Message) -> None:
    def plain(value: object) -> bool:
        if isinstance(value, bytes):
            return type(value) is bytes
        if isinstance(value, tuple):
            return all(map(plain, value))
        fields = getattr(type(value), "__slots__", ())
        return all(plain(getattr(value, name)) for name in fields)

    try:
        signed = SIGNER.sign(message)
    except AssertionError:  # Larger than its row of the wire table allows.
        return
    opened = open_envelope(signed.envelope, NETWORK_ID, STRANGER)
    assert plain(opened.message)
    assert type(opened.envelope) is bytes


def test_a_reference_that_is_sent_is_only_its_bytes() -> None:
    """Even if a simulation's envelope came into a real message, its receiver would get bytes."""
    for nested in (by_reference(), by_reference(b"forged")):
        received = unpack(pack([nested]))[0]
        assert (type(received), received) == (bytes, bytes(nested))
    with pytest.raises(PeerFault):
        admit(bytes(by_reference(b"forged")), STRANGER, Carrier.STREAM, NETWORK_ID, 0)


class _CountingSigner:
    """Another signer than the node's own."""

    peer_id = STRANGER
    network_id = NETWORK_ID

    def __init__(self) -> None:
        self.signed: list[Message] = []

    def sign(self, message: M) -> Signed[M]:
        self.signed.append(message)
        envelope = by_reference(message=message)
        return Signed(STRANGER, message, envelope, envelope.content_id)

    def secret(self, purpose: bytes, context: bytes) -> bytes:
        return digest_of(purpose + context)


def test_a_core_signs_with_the_signer_that_it_is_given() -> None:
    signer = _CountingSigner()
    core = Core(signer, Policy())
    core.handle(PolicyChanged(Policy(providing=True)), 1_000)
    (record,) = signer.signed
    assert core.status(1_000).record is record
    assert core.signer.peer_id == STRANGER


def test_secrets_of_a_key_differ_by_purpose_context_and_key() -> None:
    other = KeySigner(bytes([9]) * 32, NETWORK)
    told = [SIGNER.secret(b"a", b""), SIGNER.secret(b"b", b""), SIGNER.secret(b"a", b"b"),
            other.secret(b"a", b"")]  # fmt: skip
    assert len(set(told)) == 4
    assert told[0] == SIGNER.secret(b"a", b"")
