"""States of machines as bytes on this node's disk.

Spec: specs/core.md#snapshots. A value is encoded as its class declares it, so there is no second
schema to maintain. A missing field takes its default, so older snapshots stay readable.
"""

import dataclasses
import functools
import types
from enum import Enum
from typing import Annotated, Any, NewType, TypeVar, Union, get_args, get_origin, get_type_hints

import msgpack

T = TypeVar("T")


def to_snapshot(value: Any) -> bytes:
    """Return the bytes of a frozen dataclass of plain values, tuples and other dataclasses."""
    packed: bytes = msgpack.packb(_plain(value))
    return packed


def from_snapshot(declared: Any, data: bytes) -> Any:
    """Return the value of bytes that `to_snapshot` made; ValueError for any other bytes.

    `declared` is a class or a union of classes.
    """
    try:
        return _value(declared, msgpack.unpackb(data, raw=False, strict_map_key=False))
    except (msgpack.UnpackException, TypeError, LookupError, AttributeError) as error:
        raise ValueError(f"not a snapshot: {error}") from None


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if dataclasses.is_dataclass(value):
        fields = {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return [type(value).__name__, fields]
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    assert value is None or isinstance(value, int | str | bytes), type(value)
    return value


def _value(declared: Any, plain: Any) -> Any:
    declared = _bare(declared)
    if get_origin(declared) in {Union, types.UnionType}:
        return _member(declared, plain)
    if dataclasses.is_dataclass(declared):
        name, fields = plain
        if name != declared.__name__:  # type: ignore[union-attr]
            raise ValueError(f"expected a {declared}, found a {name}")
        hints: dict[str, Any] = _hints(declared)  # type: ignore[arg-type]
        known = {key: _value(hints[key], item) for key, item in fields.items() if key in hints}
        return declared(**known)  # type: ignore[operator]
    if get_origin(declared) is tuple:
        kinds = get_args(declared)
        each = kinds[:1] * len(plain) if kinds[-1] is Ellipsis else kinds
        return tuple(_value(kind, item) for kind, item in zip(each, plain, strict=True))
    if isinstance(declared, type) and issubclass(declared, Enum):
        return declared(plain)
    if not isinstance(plain, declared):
        raise ValueError(f"expected {declared}, found {type(plain).__name__}")  # noqa: TRY004
    return plain


def _member(union: Any, plain: Any) -> Any:
    members = [_bare(member) for member in get_args(union)]
    if plain is None and type(None) in members:
        return None
    for member in members:
        if dataclasses.is_dataclass(member) and plain[0] == member.__name__:  # type: ignore[union-attr]
            return _value(member, plain)
    raise ValueError(f"none of {union}")


def _bare(declared: Any) -> Any:
    while isinstance(declared, NewType) or get_origin(declared) is Annotated:
        is_new = isinstance(declared, NewType)
        declared = declared.__supertype__ if is_new else get_args(declared)[0]
    return declared


@functools.cache
def _hints(declared: Any) -> dict[str, Any]:
    return get_type_hints(declared, include_extras=True)
