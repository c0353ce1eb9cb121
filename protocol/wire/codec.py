"""Bytes to records and back: canonical msgpack.

Spec: specs/messages.md#encoding. Every accepted byte string has one meaning and every record has
one encoding: after decoding, packing again must give the same bytes.
"""

from typing import Any, Final, TypeVar

import msgpack

from protocol.wire.schema import from_plain, to_plain

DEPTH_MAX: Final = 8
INT_MIN, INT_MAX = -(2**63), 2**63 - 1

R = TypeVar("R")


def encode(record: Any) -> bytes:
    """Return the only encoding of a record; ValueError if a field is out of bounds."""
    return pack(to_plain(record))


def decode(cls: type[R], data: bytes) -> R:
    """Return the record in the bytes; ValueError says what is wrong with them."""
    return from_plain(cls, unpack(data))


def pack(plain: Any) -> bytes:
    """Return the msgpack bytes of plain values: maps with integer keys, arrays, scalars."""
    packed: bytes = msgpack.packb(plain, use_bin_type=True)
    return packed


def unpack(data: bytes) -> Any:
    """Return the plain values in canonical bytes; ValueError if they are not canonical."""
    size = len(data)
    try:
        plain = msgpack.unpackb(
            data, raw=False, strict_map_key=False, use_list=True, max_ext_len=0,
            max_bin_len=size, max_str_len=size, max_array_len=size, max_map_len=size,
        )  # fmt: skip
        _check_types(plain, DEPTH_MAX)
        canonical = pack(plain) == data
    except (ValueError, TypeError, msgpack.UnpackException, OverflowError) as error:
        # msgpack raises TypeError for a map key that cannot be hashed.
        raise ValueError(f"not canonical msgpack: {error}") from None
    if not canonical:
        raise ValueError("not canonical msgpack: there is a shorter or other encoding")
    return plain


def _check_types(plain: Any, depth: int) -> None:
    if depth == 0:
        raise ValueError("nested too deeply")
    if type(plain) is dict:
        for key, value in plain.items():
            _check_types(key, depth - 1)
            _check_types(value, depth - 1)
    elif type(plain) is list:
        for item in plain:
            _check_types(item, depth - 1)
    elif type(plain) is int:
        if not INT_MIN <= plain <= INT_MAX:
            raise ValueError("an integer is out of range")
    elif type(plain) not in {str, bytes, bool}:
        raise ValueError(f"{type(plain).__name__} is not used")
