"""Declarations of records: bounds, keys, defaults and extensions.

Spec: specs/messages.md#encoding.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.wire.messages import WIRE
from protocol.wire.schema import (
    KEY_MAX,
    Bytes,
    Flag,
    Int,
    Key,
    Many,
    Record,
    Text,
    from_plain,
    slots_of,
    text_within,
    to_plain,
)
from tests.strategies import kinds


@dataclass(frozen=True, slots=True)
class Inner:
    """A record in a record."""

    number: Annotated[int, Key(1), Int(0, 9)] = 0


@dataclass(frozen=True, slots=True)
class Outer:
    """A record, its fields not in the order of their keys."""

    text: Annotated[str, Key(3), Text(4)]
    inner: Annotated[Inner, Key(1), Record(Inner)]
    many: Annotated[tuple[bool, ...], Key(2), Many(Flag(), 2)] = ()


class Reason(IntEnum):
    """A number with a name."""

    BUSY = 3


def test_keys_ascend_on_the_wire() -> None:
    plain = to_plain(Outer("abc", Inner(5), (True,)))
    assert list(plain.items()) == [(1, {1: 5}), (2, [True]), (3, "abc")]
    assert from_plain(Outer, plain) == Outer("abc", Inner(5), (True,))


@pytest.mark.parametrize(
    "plain, why",
    [
        ([], "expected a map"),
        ({1: {}}, "text: missing"),
        ({3: "abc", 1: {}}, "keys ascend"),
        ({1: {}, 3: "abc", 4: 0}, "key 4 is not understood"),
        ({1: {}, 3: "abc", 64: 0}, "key 64 is not understood"),
        ({1: {}, 3: "abc", KEY_MAX + 1: 0}, "a key is an integer from 0 to 32767"),
        ({True: {}, 3: "abc"}, "a key is an integer"),
        ({1: {2: 0}, 3: "abc"}, "inner: key 2 is not understood"),
        ({1: {1: 10}, 3: "abc"}, "inner: number: expected an integer from 0 to 9"),
        ({1: {1: 0}, 3: "abc"}, "inner: number: a field that has its default is left out"),
        ({1: {}, 2: (True,), 3: "abc"}, "many: expected an array of 0 to 2 items"),
        ({1: {}, 2: [1], 3: "abc"}, "many: expected true or false"),
        ({1: {}, 3: "abcde"}, "text: expected text of 0 to 4 bytes"),
        ({1: {}, 3: b"abc"}, "text: expected text"),
    ],
)
def test_what_is_no_record_says_why(plain: object, why: str) -> None:
    with pytest.raises(ValueError, match=f"^{why}"):
        from_plain(Outer, plain)


def test_odd_extensions_are_ignored() -> None:
    assert from_plain(Outer, {1: {65: b""}, 3: "abc", 67: [1]}) == Outer("abc", Inner())


@pytest.mark.parametrize("value", [-1, 10, True, 1.0, "1", None])
def test_an_integer_is_an_integer_between_its_bounds(value: object) -> None:
    with pytest.raises(ValueError, match="from 0 to 9"):
        Int(0, 9).from_wire(value)


def test_a_member_of_an_enumeration_goes_out_as_a_plain_integer() -> None:
    assert type(Int(1, 255).to_wire(Reason.BUSY)) is int
    with pytest.raises(ValueError, match="from 4 to 5"):
        Int(4, 5).to_wire(Reason.BUSY)


def test_text_counts_bytes_and_has_no_control_characters() -> None:
    assert Text(4).from_wire("éé") == "éé"
    for bad in ("ééé", "a\nb", "\x7f", "\x85", "\ud800"):
        with pytest.raises(ValueError, match="expected text"):
            Text(4).from_wire(bad)
    assert Text(4, lines=True).from_wire("a\n\tb") == "a\n\tb"
    with pytest.raises(ValueError, match="control"):
        Text(4, lines=True).from_wire("\0")
    with pytest.raises(ValueError, match="1 to 4 bytes"):
        Text(4, 1).from_wire("")


def test_bytes_are_counted() -> None:
    assert Bytes(1, 2).from_wire(b"ab") == b"ab"
    for bad in (b"", b"abc", "ab", bytearray(b"ab")):
        with pytest.raises(ValueError, match="expected 1 to 2 bytes"):
            Bytes(1, 2).from_wire(bad)


def test_a_record_of_another_class_is_not_sent() -> None:
    with pytest.raises(ValueError, match="inner: expected a Inner"):
        to_plain(Outer("abc", Outer("abc", Inner())))


def test_a_key_is_used_once() -> None:
    twice = dataclass(
        type("Twice", (), {"__annotations__": {
            "a": Annotated[int, Key(1), Int()], "b": Annotated[int, Key(1), Int()]}})
    )  # fmt: skip
    with pytest.raises(AssertionError, match="uses a key twice"):
        slots_of(twice)


@pytest.mark.parametrize("route", WIRE, ids=lambda route: route.message.__name__)
def test_keys_of_the_base_version_are_below_the_extensions(route: object) -> None:
    assert all(0 < slot.key < 64 for slot in slots_of(route.message))


@given(st.data())
def test_each_kind_takes_what_it_gives(data: st.DataObject) -> None:
    slots = [slot for route in WIRE for slot in slots_of(route.message)]
    slot = data.draw(st.sampled_from(slots))
    value = data.draw(kinds(slot.kind))
    assert slot.kind.from_wire(slot.kind.to_wire(value)) == value


@given(st.text(), st.integers(0, 50))
def test_any_text_can_be_cut_to_a_line(text: str, most: int) -> None:
    line = text_within(text, most)
    assert Text(most).from_wire(line) == line


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=20))
def test_a_short_line_is_not_cut(text: str) -> None:
    assert text_within(text, 80) == text
