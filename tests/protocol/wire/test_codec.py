"""Canonical msgpack: one encoding of each record, one meaning of each byte string.

Spec: specs/messages.md#encoding.
"""

import msgpack
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from protocol.wire.codec import DEPTH_MAX, INT_MAX, INT_MIN, decode, encode, pack, unpack
from protocol.wire.job import JobSpec, Outputs
from protocol.wire.messages import WIRE, Heartbeat, Message, Ready, Start
from tests.strategies import messages, records

LEASE = bytes(32)
START = encode(Start(LEASE, 7))
MALLEABLE = {
    "integer in 8 bits for a fixint": b"\x82\x01\xc4\x20" + LEASE + b"\x02\xcc\x07",
    "integer in 16 bits": b"\x82\x01\xc4\x20" + LEASE + b"\x02\xcd\x00\x07",
    "integer in 64 bits": b"\x82\x01\xc4\x20" + LEASE + b"\x02\xcf" + bytes(7) + b"\x07",
    "signed integer for an unsigned": b"\x82\x01\xc4\x20" + LEASE + b"\x02\xd0\x07",
    "key in 8 bits for a fixint": b"\x82\xcc\x01\xc4\x20" + LEASE + b"\x02\x07",
    "bin16 for bin8": b"\x82\x01\xc5\x00\x20" + LEASE + b"\x02\x07",
    "str8 for bytes": b"\x82\x01\xd9\x20" + LEASE + b"\x02\x07",
    "map16 for fixmap": b"\xde\x00\x02\x01\xc4\x20" + LEASE + b"\x02\x07",
    "map32 for fixmap": b"\xdf\x00\x00\x00\x02\x01\xc4\x20" + LEASE + b"\x02\x07",
    "array for map": b"\x92\xc4\x20" + LEASE + b"\x07",
    "key twice": b"\x83\x01\xc4\x20" + LEASE + b"\x02\x06\x02\x07",
    "keys in another order": b"\x82\x02\x07\x01\xc4\x20" + LEASE,
    "key as text": b"\x82\xa1\x31\xc4\x20" + LEASE + b"\x02\x07",
    "key true": b"\x82\xc3\xc4\x20" + LEASE + b"\x02\x07",
    "negative key": b"\x83\xff\x07\x01\xc4\x20" + LEASE + b"\x02\x07",
    "key that cannot be hashed": b"\x82\x90\xc4\x20" + LEASE + b"\x02\x07",
    "float for an integer": b"\x82\x01\xc4\x20" + LEASE + b"\x02\xca\x40\xe0\x00\x00",
    "double for an integer": b"\x82\x01\xc4\x20" + LEASE + b"\x02\xcb\x40\x1c" + bytes(6),
    "true for an integer": b"\x82\x01\xc4\x20" + LEASE + b"\x02\xc3",
    "nil for an integer": b"\x82\x01\xc4\x20" + LEASE + b"\x02\xc0",
    "extension": b"\x82\x01\xc4\x20" + LEASE + b"\x02\xd4\x05\x07",
    "extension without data": b"\x82\x01\xc4\x20" + LEASE + b"\x02\xc7\x00\x05",
    "time stamp": b"\x82\x01\xc4\x20" + LEASE + b"\x02\xd6\xff\x00\x00\x00\x07",
    "byte after the end": START + b"\x00",
    "second value after the end": START + START,
    "cut": START[:-1],
    "nothing": b"",
    "never used byte": b"\xc1",
    "array of four thousand million items": b"\xdd\xff\xff\xff\xff",
    "map of four thousand million items": b"\xdf\xff\xff\xff\xff",
    "text of four thousand million bytes": b"\xdb\xff\xff\xff\xff",
    "bytes without end": b"\xc6\xff\xff\xff\xff",
    "nested without end": b"\x91" * 100_000,
    "maps nested without end": b"\x81\x01" * 50_000,
    "text that is no UTF-8": b"\xa1\xff",
    "surrogate in UTF-8": b"\xa3\xed\xa0\x80",
    "overlong UTF-8": b"\xa2\xc0\xaf",
    "unsigned integer beyond 63 bits": b"\xcf\x80" + bytes(7),
}


@pytest.mark.parametrize("data", MALLEABLE.values(), ids=MALLEABLE)
def test_what_is_not_canonical_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode(Start, data)


def test_the_canonical_form_of_the_above_passes() -> None:
    assert b"\x82\x01\xc4\x20" + LEASE + b"\x02\x07" == START
    assert decode(Start, START) == Start(LEASE, 7)


@given(messages())
def test_every_message_comes_back(message: Message) -> None:
    assert decode(type(message), encode(message)) == message


@given(st.one_of(records(JobSpec), records(Outputs)))
def test_every_other_record_comes_back(record: object) -> None:
    assert decode(type(record), encode(record)) == record


@given(st.sampled_from(WIRE), st.binary(max_size=120))
def test_any_bytes_are_a_record_or_a_value_error(route: object, data: bytes) -> None:
    try:
        record = decode(route.message, data)
    except ValueError:
        return
    assert decode(route.message, encode(record)) == record


PLAIN = st.recursive(
    st.one_of(st.integers(INT_MIN, INT_MAX), st.booleans(), st.binary(), st.text()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.integers(0, 70), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(PLAIN)
def test_plain_values_have_one_encoding(plain: object) -> None:
    data = pack(plain)
    try:
        again = unpack(data)
    except ValueError:
        assume(False)
    assert pack(again) == data
    assert again == plain


@given(messages(), st.data())
def test_a_longer_encoding_is_never_taken(message: Message, data: st.DataObject) -> None:
    body = encode(message)
    place = data.draw(st.integers(0, len(body) - 1))
    inserted = data.draw(st.binary(min_size=1, max_size=3))
    changed = body[:place] + inserted + body[place:]
    try:
        other = decode(type(message), changed)
    except ValueError:
        return
    # Two byte strings may mean the same only if an extension that we ignore differs.
    assert other != message or len(unpack(changed)) > len(unpack(body))


def test_depth_is_bounded() -> None:
    nested: list[object] = []
    for _ in range(DEPTH_MAX):
        assert unpack(pack(nested)) == nested
        nested = [nested]
    with pytest.raises(ValueError, match="deeply"):
        unpack(pack(nested))


def test_integers_are_bounded() -> None:
    assert unpack(pack([INT_MIN, INT_MAX])) == [INT_MIN, INT_MAX]
    with pytest.raises(ValueError, match="out of range"):
        unpack(pack(INT_MAX + 1))


def test_what_is_out_of_bounds_is_not_encoded() -> None:
    with pytest.raises(ValueError, match="lease_id: expected 32 to 32 bytes"):
        encode(Ready(bytes(31)))


def test_a_field_that_has_its_default_is_left_out_in_both_directions() -> None:
    beat = Heartbeat(LEASE, 0, 1, 0)
    plain = unpack(encode(beat))
    assert sorted(plain) == [1, 2, 3, 4]
    with pytest.raises(ValueError, match="fetched: a field that has its default is left out"):
        decode(Heartbeat, msgpack.packb({**plain, 5: 0}, use_bin_type=True))
