"""The intake: the one door for strangers' bytes.

Spec: specs/messages.md#intake.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.core.intake import admit, admit_record
from protocol.values.errors import BadSignature, MalformedMessage, PeerFault, RuleBroken, Stale
from protocol.values.limits import CLOCK_SKEW_MS, RECORD_TTL_MS
from protocol.wire.envelope import Signed
from protocol.wire.job import Resources
from protocol.wire.messages import (
    BY_NUMBER,
    NUMBER_OF,
    Call,
    CapabilityRecord,
    Carrier,
    Message,
    Ready,
)
from tests.driven import START_MS
from tests.strategies import SIGNERS, messages

OWNER, FORWARDER = SIGNERS[0], SIGNERS[1].peer_id
NETWORK_ID = OWNER.network_id


def call(issued_ms: int) -> Signed[Call]:
    return OWNER.sign(
        Call(bytes(16), 1, issued_ms, Resources(), 1, 1_000, 100, 0, 2_000, 0, bytes(32), 0)
    )


def record(issued_ms: int = START_MS, ttl_ms: int = RECORD_TTL_MS) -> Signed[CapabilityRecord]:
    return OWNER.sign(CapabilityRecord(7, issued_ms, ttl_ms, (), True))


def gossip(data: bytes, now_ms: int = START_MS) -> Signed[Message]:
    return admit(data, FORWARDER, Carrier.GOSSIP, NETWORK_ID, now_ms)


@given(messages(), st.sampled_from([Carrier.GOSSIP, Carrier.STREAM]))
def test_a_message_travels_as_the_wire_table_says(message: Message, carrier: Carrier) -> None:
    try:
        signed = OWNER.sign(message)
    except AssertionError:  # Too large for its envelope.
        return
    allowed = BY_NUMBER[NUMBER_OF[type(message)]].carrier in {carrier, Carrier.BOTH}
    try:
        admitted = admit(signed.envelope, OWNER.peer_id, carrier, NETWORK_ID, START_MS)
    except Stale:
        assert isinstance(message, Call | CapabilityRecord)
    except RuleBroken:
        assert not allowed
    else:
        assert admitted == signed
        assert allowed


@given(st.binary(max_size=200), st.sampled_from([Carrier.GOSSIP, Carrier.STREAM]))
def test_any_bytes_blame_who_handed_them_over(data: bytes, carrier: Carrier) -> None:
    with pytest.raises(MalformedMessage) as caught:
        admit(data, FORWARDER, carrier, NETWORK_ID, START_MS)
    assert caught.value.peer == FORWARDER


def test_on_a_stream_peers_speak_for_themselves() -> None:
    ready = OWNER.sign(Ready(bytes(32))).envelope
    with pytest.raises(RuleBroken, match="signed by another peer"):
        admit(ready, FORWARDER, Carrier.STREAM, NETWORK_ID, START_MS)


def test_gossip_passes_on_what_others_said() -> None:
    assert gossip(call(START_MS).envelope).signer == OWNER.peer_id


def test_a_forged_announcement_blames_the_forwarder() -> None:
    data = bytearray(call(START_MS).envelope)
    data[-1] ^= 1
    with pytest.raises(BadSignature) as caught:
        gossip(bytes(data))
    assert caught.value.peer == FORWARDER


@pytest.mark.parametrize("skew_ms", [-CLOCK_SKEW_MS, 0, CLOCK_SKEW_MS])
def test_calls_of_about_now_are_taken(skew_ms: int) -> None:
    gossip(call(START_MS + skew_ms).envelope)


@pytest.mark.parametrize("skew_ms", [-CLOCK_SKEW_MS - 1, CLOCK_SKEW_MS + 1])
def test_calls_of_another_time_are_stale(skew_ms: int) -> None:
    with pytest.raises(Stale, match="clock"):
        gossip(call(START_MS + skew_ms).envelope)


@pytest.mark.parametrize(
    "issued_ms, ttl_ms, stale",
    [
        (START_MS, RECORD_TTL_MS, False),
        (START_MS + CLOCK_SKEW_MS, RECORD_TTL_MS, False),
        (START_MS + CLOCK_SKEW_MS + 1, RECORD_TTL_MS, True),
        (START_MS - RECORD_TTL_MS, RECORD_TTL_MS, False),
        (START_MS - RECORD_TTL_MS - 1, RECORD_TTL_MS, True),
        (START_MS - CLOCK_SKEW_MS, 0, False),  # A withdrawal is news for a while.
        (START_MS - CLOCK_SKEW_MS - 1, 0, True),
    ],
)
def test_records_hold_for_their_time(issued_ms: int, ttl_ms: int, *, stale: bool) -> None:
    data = record(issued_ms, ttl_ms).envelope
    if stale:
        with pytest.raises(Stale):
            gossip(data)
        with pytest.raises(Stale):
            admit_record(data, OWNER.peer_id, NETWORK_ID, START_MS)
    else:
        assert gossip(data).message.sequence == 7
        assert admit_record(data, OWNER.peer_id, NETWORK_ID, START_MS) == 7


def test_a_record_is_its_owners() -> None:
    with pytest.raises(RuleBroken):
        admit_record(record().envelope, FORWARDER, NETWORK_ID, START_MS)
    with pytest.raises(RuleBroken):
        admit_record(call(START_MS).envelope, OWNER.peer_id, NETWORK_ID, START_MS)
    with pytest.raises(PeerFault):
        admit_record(b"noise", OWNER.peer_id, NETWORK_ID, START_MS)
