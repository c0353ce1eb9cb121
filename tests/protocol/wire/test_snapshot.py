"""Snapshots: what is written down comes back as it was.

Spec: specs/core.md#snapshots.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, NewType

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.core.jobs import Job
from protocol.machines import provider, requester
from protocol.wire.snapshot import from_snapshot, to_snapshot
from tests.strategies import snapshots

TABLES = (Job, requester.auction.State, requester.lease.State, provider.lease.State)
Name = NewType("Name", str)


class Colour(StrEnum):
    """An enumeration, as states have them."""

    RED = "red"


@dataclass(frozen=True, slots=True)
class Old:
    """A state of yesterday."""

    name: Annotated[Name, "anything"]


@dataclass(frozen=True, slots=True)
class New:
    """The state of today, with one field more."""

    name: Name
    colour: Colour = Colour.RED
    pair: tuple[int, str] = (0, "")
    other: "Old | None" = None


@given(st.sampled_from(TABLES).flatmap(lambda table: st.tuples(st.just(table), snapshots(table))))
def test_every_state_comes_back(pair: tuple[object, object]) -> None:
    table, state = pair
    again = from_snapshot(table, to_snapshot(state))
    assert again == state
    assert type(again) is type(state)


def test_a_missing_field_takes_its_default_and_an_unknown_one_is_dropped() -> None:
    data = msgpack.packb(["New", {"name": "a", "gone": 7}])
    assert from_snapshot(New, data) == New(Name("a"))


def test_an_enumeration_comes_back_as_one() -> None:
    again = from_snapshot(New, to_snapshot(New(Name("a"), other=Old(Name("b")))))
    assert type(again.colour) is Colour
    assert again.other == Old(Name("b"))


@pytest.mark.parametrize(
    "plain",
    [
        None, 1, [], {}, ["New"], ["New", 1], ["New", {}], ["New", []], ["Other", {"name": "a"}],
        ["New", {"name": 1}], ["New", {"name": "a", "pair": [1]}],
        ["New", {"name": "a", "colour": "blue"}], ["New", {"name": "a", "other": 7}],
        ["New", {"name": "a", "other": []}],
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_no_snapshot_is_a_value_error(plain: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        from_snapshot(New, msgpack.packb(plain))


@given(st.sampled_from(TABLES), st.binary(max_size=60))
def test_any_bytes_are_a_snapshot_or_a_value_error(table: object, data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        from_snapshot(table, data)


def test_only_plain_values_are_written() -> None:
    with pytest.raises(AssertionError, match="float"):
        to_snapshot(New(1.5))
