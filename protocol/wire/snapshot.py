"""States of machines as bytes on this node's disk.

Spec: specs/core.md#snapshots. A value is encoded as its class declares it, so there is no second
schema to maintain. A missing field takes its default, so older snapshots stay readable.
"""

import dataclasses
import functools
import types
from collections.abc import Callable
from enum import Enum
from typing import (
    Annotated,
    Any,
    Final,
    NewType,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import msgpack

T = TypeVar("T")

Reader = Callable[[Any], Any]
"""Makes a value of plain values, lists and maps."""
PLAIN: Final = frozenset({int, str, bytes, bool, type(None)})


def to_snapshot(value: Any) -> bytes:
    """Return the bytes of a frozen dataclass of plain values, tuples and other dataclasses."""
    packed: bytes = msgpack.packb(_plain(value))
    return packed


def from_snapshot(declared: Any, data: bytes) -> Any:
    """Return the value of bytes that `to_snapshot` made; ValueError for any other bytes.

    `declared` is a class or a union of classes.
    """
    try:
        return _reader(declared)(msgpack.unpackb(data, raw=False, strict_map_key=False))
    except (msgpack.UnpackException, TypeError, LookupError, AttributeError) as error:
        raise ValueError(f"not a snapshot: {error}") from None


def _plain(value: Any) -> Any:
    kind: Any = type(value)
    if kind in PLAIN:
        return value
    if kind is tuple:
        return [_plain(item) for item in value]
    if isinstance(value, Enum):
        return value.value
    fields = {name: _plain(getattr(value, name)) for name in _names(kind)}
    return [kind.__name__, fields]


@functools.cache
def _names(kind: Any) -> tuple[str, ...]:
    """Return the names of a dataclass's fields."""
    assert dataclasses.is_dataclass(kind), kind
    return tuple(field.name for field in dataclasses.fields(kind))


@functools.cache
def _reader(declared: Any) -> Reader:
    """Return the function that reads a value of a declared type."""
    declared = _bare(declared)
    if get_origin(declared) in {Union, types.UnionType}:
        return _union_reader(get_args(declared))
    if dataclasses.is_dataclass(declared):
        return _record_reader(declared)
    if get_origin(declared) is tuple:
        return _tuple_reader(get_args(declared))
    if isinstance(declared, type) and issubclass(declared, Enum):
        return declared

    def read(plain: Any) -> Any:
        if not isinstance(plain, declared):
            raise ValueError(f"expected {declared}, found {type(plain).__name__}")  # noqa: TRY004
        return plain

    return read


def _record_reader(declared: Any) -> Reader:
    hints = get_type_hints(declared, include_extras=True)
    readers = {name: _reader(_bare(hint)) for name, hint in hints.items()}

    def read(plain: Any) -> Any:
        name, fields = plain
        if name != declared.__name__:
            raise ValueError(f"expected a {declared}, found a {name}")
        known = {key: readers[key](item) for key, item in fields.items() if key in readers}
        return declared(**known)

    return read


def _tuple_reader(kinds: tuple[Any, ...]) -> Reader:
    readers = [_reader(_bare(kind)) for kind in kinds if kind is not Ellipsis]
    is_repeated = kinds[-1] is Ellipsis

    def read(plain: Any) -> Any:
        each = readers * len(plain) if is_repeated else readers
        return tuple(reader(item) for reader, item in zip(each, plain, strict=True))

    return read


def _union_reader(members: tuple[Any, ...]) -> Reader:
    bare: list[Any] = [_bare(member) for member in members]
    readers = {each.__name__: _reader(each) for each in bare if each is not type(None)}
    only = next(iter(readers.values())) if len(readers) == 1 else None

    def read(plain: Any) -> Any:
        if plain is None and type(None) in bare:
            return None
        if only is not None:  # It may be of any class, and not name it.
            return only(plain)
        if plain[0] in readers:
            return readers[plain[0]](plain)
        raise ValueError(f"none of {members}")

    return read


def _bare(declared: Any) -> Any:
    while isinstance(declared, NewType) or get_origin(declared) is Annotated:
        is_new = isinstance(declared, NewType)
        declared = declared.__supertype__ if is_new else get_args(declared)[0]
    return declared
