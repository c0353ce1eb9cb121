"""Hypothesis strategies for every record on the wire, built from its declaration.

Spec: specs/messages.md#encoding. The schema is the only source: a new field is tested at once.
"""

import dataclasses
import types
from enum import Enum
from typing import Annotated, Any, NewType, Union, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from protocol.values.ids import peer_id_of
from protocol.wire.envelope import KeySigner
from protocol.wire.messages import WIRE, Message
from protocol.wire.schema import Bytes, Flag, Int, Many, Record, Text, slots_of

NETWORK = "test"
SIGNERS = tuple(KeySigner(bytes([number]) * 32, NETWORK) for number in range(1, 9))
PLAIN_TEXT = st.characters(exclude_categories=["Cc", "Cs"])
LINES_TEXT = st.one_of(PLAIN_TEXT, st.sampled_from("\t\n\r"))


def records(cls: Any) -> st.SearchStrategy[Any]:
    """Return a strategy for all records of a class."""
    return st.builds(cls, **{slot.name: kinds(slot.kind) for slot in slots_of(cls)})


def messages() -> st.SearchStrategy[Message]:
    """Return a strategy for all messages that fit their envelopes."""
    return st.one_of(records(route.message) for route in WIRE)


def kinds(kind: Any) -> st.SearchStrategy[Any]:
    """Return a strategy for all values of one kind of field."""
    match kind:
        case Int(low, high):
            return st.integers(low, high)
        case Flag():
            return st.booleans()
        case Bytes(least, most):
            return st.binary(min_size=least, max_size=min(most, least + 40))
        case Text(most, least, lines):
            return texts(most, least, lines=lines)
        case Many(item, most, least):
            bounds = {"min_size": least, "max_size": min(most, least + 3)}
            return st.lists(kinds(item), **bounds).map(tuple)
        case Record(cls):
            return records(cls)
    raise AssertionError(kind)


def texts(most: int, least: int, *, lines: bool) -> st.SearchStrategy[str]:
    """Return a strategy for texts of so many UTF-8 bytes. Long ones are peer ids or plain."""
    if least > 8:
        return st.binary(min_size=32, max_size=32).map(peer_id_of)
    alphabet = LINES_TEXT if lines else PLAIN_TEXT
    text = st.text(alphabet, min_size=least, max_size=min(most, 40))
    return text.filter(lambda value: len(value.encode()) <= most)


def largest(kind: Any) -> Any:
    """Return the value of a kind, or the record of a class, whose encoding is the longest."""
    match kind:
        case Int(low, high):
            return high if high > -low else low
        case Flag():
            return True
        case Bytes(_, most):
            return bytes(most)
        case Text(most):
            return "x" * most
        case Many(item, most):
            return (largest(item),) * most
        case Record(cls):
            return largest(cls)
    return kind(**{slot.name: largest(slot.kind) for slot in slots_of(kind)})


def snapshots(declared: Any) -> st.SearchStrategy[Any]:
    """Return a strategy for values of a class, a union or a field, as snapshots hold them."""
    bare, kind = declared, None
    while isinstance(bare, NewType) or get_origin(bare) is Annotated:
        if get_origin(bare) is Annotated and len(get_args(bare)) > 2:
            kind = get_args(bare)[2]
        bare = bare.__supertype__ if isinstance(bare, NewType) else get_args(bare)[0]
    if kind is not None:
        return kinds(kind)
    if get_origin(bare) in {Union, types.UnionType}:
        return st.one_of([snapshots(member) for member in get_args(bare)])
    if get_origin(bare) is tuple:
        return _tuples(get_args(bare))
    if dataclasses.is_dataclass(bare):
        hints = get_type_hints(bare, include_extras=True)
        fields = dataclasses.fields(bare)
        return st.builds(bare, **{field.name: snapshots(hints[field.name]) for field in fields})
    if issubclass(bare, Enum):
        return st.sampled_from(bare)
    plain = {
        int: st.integers(0, 2**53), str: st.text(PLAIN_TEXT, max_size=20), bool: st.booleans(),
        bytes: st.binary(max_size=40), type(None): st.none(),
    }  # fmt: skip
    return plain[bare]


def _tuples(members: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    if members[-1] is Ellipsis:
        return st.lists(snapshots(members[0]), max_size=2).map(tuple)
    return st.tuples(*map(snapshots, members))
