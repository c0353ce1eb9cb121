"""Records: one declaration gives both validation and specification.

A record is a frozen dataclass whose fields are `Annotated[type, Key(n), kind]`. On the wire it is a
map from keys to values; a field whose value is its default is absent. Bounds are part of the kind.
Spec: specs/messages.md#encoding (canonical msgpack, integer keys).
"""

import dataclasses
import functools
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Any, Final, TypeVar, get_args, get_origin, get_type_hints

EXTENSION_KEY_MIN: Final = 64
"""The first key of extensions: odd keys may be ignored, even keys must be understood."""
KEY_MAX: Final = 32_767

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Key:
    """The number of a field on the wire. It never changes."""

    number: int


@dataclass(frozen=True, slots=True)
class Int:
    """An integer between bounds, both included."""

    low: int = 0
    high: int = 2**63 - 1

    def to_wire(self, value: Any) -> Any:
        # Reasons in our code are members of an IntEnum; the wire has plain integers.
        return self.from_wire(value.value if isinstance(value, IntEnum) else value)

    def from_wire(self, value: Any) -> int:
        """Return the integer; ValueError if it is not an integer or out of bounds."""
        if type(value) is not int or not self.low <= value <= self.high:
            raise ValueError(f"expected an integer from {self.low} to {self.high}")
        return value


@dataclass(frozen=True, slots=True)
class Flag:
    """True or false."""

    def to_wire(self, value: Any) -> Any:
        return self.from_wire(value)

    def from_wire(self, value: Any) -> bool:
        """Return the flag; ValueError if it is not a flag."""
        if type(value) is not bool:
            raise ValueError("expected true or false")
        return value


@dataclass(frozen=True, slots=True)
class Bytes:
    """Bytes whose number is between bounds, both included."""

    least: int
    most: int

    def to_wire(self, value: Any) -> Any:
        return self.from_wire(value)

    def from_wire(self, value: Any) -> bytes:
        """Return the bytes; ValueError if there are too few or too many."""
        if type(value) is not bytes or not self.least <= len(value) <= self.most:
            raise ValueError(f"expected {self.least} to {self.most} bytes")
        return value


@dataclass(frozen=True, slots=True)
class Text:
    """Text without control characters; the bound counts UTF-8 bytes."""

    most: int
    least: int = 0
    lines: bool = False  # Whether tabs and line ends are allowed, as in a command's argument.

    def to_wire(self, value: Any) -> Any:
        return self.from_wire(value)

    def from_wire(self, value: Any) -> str:
        """Return the text; ValueError if it is too long or contains control characters."""
        if type(value) is not str:
            raise ValueError("expected text")
        if not self.least <= len(value.encode("utf-8", "replace")) <= self.most:
            raise ValueError(f"expected text of {self.least} to {self.most} bytes")
        welcome = "\t\n\r" if self.lines else ""
        if any(unicodedata.category(c) in {"Cc", "Cs"} and c not in welcome for c in value):
            raise ValueError("expected text without control characters")
        return value


def text_within(value: str, most: int) -> str:
    """Return any text as a `Text` of at most so many bytes: one line, truncated if too long."""
    unwelcome = {"Cc", "Cs"}
    line = "".join(" " if unicodedata.category(c) in unwelcome else c for c in value)
    return line.encode()[:most].decode(errors="ignore")


@dataclass(frozen=True, slots=True)
class Many:
    """An array of one kind; a tuple in Python."""

    kind: Any
    most: int
    least: int = 0

    def to_wire(self, value: Any) -> Any:
        return [self.kind.to_wire(item) for item in self._bounded(value, tuple)]

    def from_wire(self, value: Any) -> tuple[Any, ...]:
        """Return the items as a tuple; ValueError if there are too few or too many."""
        return tuple(self.kind.from_wire(item) for item in self._bounded(value, list))

    def _bounded(self, value: Any, container: type[Any]) -> Any:
        items = value if type(value) is container else None
        if items is None or not self.least <= len(items) <= self.most:
            raise ValueError(f"expected an array of {self.least} to {self.most} items")
        return items


@dataclass(frozen=True, slots=True)
class Record:
    """Another record, as a map inside the map."""

    cls: type

    def to_wire(self, value: Any) -> Any:
        if type(value) is not self.cls:
            raise ValueError(f"expected a {self.cls.__name__}")
        return to_plain(value)

    def from_wire(self, value: Any) -> Any:
        """Return the record; ValueError says which field is wrong and how."""
        return from_plain(self.cls, value)


DIGEST: Final = Bytes(32, 32)
PEER: Final = Text(64, 46)
MONEY: Final = Int(0, 2**63 - 1)
RATE: Final = Int(0, 10**12)
MILLIS: Final = Int(0, 400 * 24 * 3600 * 1000)


@dataclass(frozen=True, slots=True)
class Slot:
    """One field of a record, compiled from its declaration."""

    key: int
    name: str
    kind: Any
    required: bool
    default: Any


@functools.cache
def slots_of(cls: Any) -> tuple[Slot, ...]:
    """Return the fields of a record class in the order of their keys."""
    hints = get_type_hints(cls, include_extras=True)
    found = [_slot(field, hints[field.name]) for field in dataclasses.fields(cls)]
    keys = [slot.key for slot in found]
    assert len(set(keys)) == len(keys), f"{cls.__name__} uses a key twice"
    return tuple(sorted(found, key=lambda slot: slot.key))


def to_plain(record: Any) -> dict[int, Any]:
    """Return the map of a record, keys ascending; ValueError if a field is out of bounds."""
    plain = {}
    declared: Any = type(record)
    for slot in slots_of(declared):
        value = getattr(record, slot.name)
        if slot.required or value != slot.default:
            plain[slot.key] = _named(slot, slot.kind.to_wire, value)
    return plain


def from_plain(cls: type[R], plain: Any) -> R:
    """Return the record in a map; ValueError if the map is not the encoding of a record."""
    if type(plain) is not dict:
        raise ValueError("expected a map")
    declared: Any = cls
    slots = slots_of(declared)
    _check_keys(plain, {slot.key for slot in slots})
    values: dict[str, Any] = {}
    for slot in slots:
        if slot.key in plain:
            values[slot.name] = _named(slot, slot.kind.from_wire, plain[slot.key])
            if not slot.required and values[slot.name] == slot.default:
                raise ValueError(f"{slot.name}: a field that has its default is left out")
        elif slot.required:
            raise ValueError(f"{slot.name}: missing")
    return cls(**values)


def _check_keys(plain: Mapping[Any, Any], known: set[int]) -> None:
    previous = -1
    for key in plain:
        if type(key) is not int or not 0 <= key <= KEY_MAX:
            raise ValueError("a key is an integer from 0 to 32767")
        if key <= previous:
            raise ValueError("keys ascend")
        if key not in known and (key < EXTENSION_KEY_MIN or key % 2 == 0):
            raise ValueError(f"key {key} is not understood")
        previous = key


def _named(slot: Slot, convert: Callable[[Any], Any], value: Any) -> Any:
    try:
        return convert(value)
    except ValueError as error:
        raise ValueError(f"{slot.name}: {error}") from None


def _slot(field: "dataclasses.Field[Any]", hint: Any) -> Slot:
    assert get_origin(hint) is Annotated, f"{field.name} has no key"
    key, kind = get_args(hint)[1:]
    assert isinstance(key, Key)
    required = field.default is dataclasses.MISSING
    return Slot(key.number, field.name, kind, required, None if required else field.default)
