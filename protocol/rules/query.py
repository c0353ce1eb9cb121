"""The query language for offers: a text to a condition on capability records.

Spec: specs/query.md. Every fault of a text is an InvalidQuery that tells its position. Parsing and
evaluation take a bounded time: a text has at most QUERY_BYTES_MAX bytes, and no loops.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from operator import ge, gt, le, lt, ne
from typing import Any, Final

from protocol.rules.query_fields import FIELDS, FLAG, Field, Subject, Value
from protocol.values.errors import InvalidQuery
from protocol.values.limits import QUERY_BYTES_MAX, QUERY_DEPTH_MAX

OPERATORS: Final = ("!=", "<=", ">=", "==", "=", "<", ">")
COMPARE: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "!=": ne, "<": lt, "<=": le, ">": gt, ">=": ge,
}  # fmt: skip
MARKS: Final = ("(", ")", "[", "]", ",")
QUOTATION_MARKS: Final = "\"'"
RESERVED: Final = ("and", "or", "not", "in")
END: Final = ""
CACHED_MAX: Final = 256
"""Parsed queries that are kept: many jobs have the same one."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A field against values; several values come with "in" alone."""

    name: str
    operator: str
    values: tuple[Value, ...]
    text: str
    """As the user wrote it."""

    def holds(self, subject: Subject) -> bool:
        """Return whether it holds for a node."""
        have = FIELDS[self.name].have(subject)
        if isinstance(have, tuple):
            found = any(value in have for value in self.values)
            return found != (self.operator == "!=")
        return self.allows(have)

    def allows(self, have: int) -> bool:
        """Return whether a quantity meets the condition."""
        if self.operator in {"=", "in"}:
            return have in self.values
        return bool(COMPARE[self.operator](have, self.values[0]))


@dataclass(frozen=True, slots=True)
class AllOf:
    """Every part holds."""

    parts: tuple["Condition", ...]

    def holds(self, subject: Subject) -> bool:
        """Return whether it holds for a node."""
        return all(part.holds(subject) for part in self.parts)


@dataclass(frozen=True, slots=True)
class AnyOf:
    """A part holds."""

    parts: tuple["Condition", ...]

    def holds(self, subject: Subject) -> bool:
        """Return whether it holds for a node."""
        return any(part.holds(subject) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Not:
    """The part does not hold."""

    part: "Condition"

    def holds(self, subject: Subject) -> bool:
        """Return whether it holds for a node."""
        return not self.part.holds(subject)


Condition = Comparison | AllOf | AnyOf | Not


@lru_cache(CACHED_MAX)
def parse(text: str, *, public: bool = False) -> Condition:
    """Return the condition that a text states; an empty text states nothing. InvalidQuery.

    `public` refuses fields that only the node which asks knows.
    """
    if len(text.encode(errors="replace")) > QUERY_BYTES_MAX:
        raise InvalidQuery(f"a query has at most {QUERY_BYTES_MAX} bytes", QUERY_BYTES_MAX)
    parser = _Parser(text, public=public)
    return AllOf(()) if parser.is_at(END) else parser.whole()


def field_named(name: str, position: int) -> Field:
    """Return a field; InvalidQuery tells the nearest name, and where the name is."""
    if name in FIELDS:
        return FIELDS[name]
    close = get_close_matches(name.lower(), FIELDS, 1, 0.5)
    hint = f"did you mean {close[0]!r}?" if close else f"fields are {', '.join(FIELDS)}"
    raise InvalidQuery(f"there is no field {name!r}; {hint}", position)


def sort_order(text: str) -> tuple[tuple[str, bool], ...]:
    """Return the fields of an order such as "price,-vram", and whether each descends."""
    if not text.strip():
        return ()
    order, at = [], 0
    for part in text.split(","):
        name = part.strip().removeprefix("-")
        field_named(name, at + part.find(name))
        order.append((name, part.strip().startswith("-")))
        at += len(part) + 1
    return tuple(order)


def in_order(subjects: Iterable[Subject], order: tuple[tuple[str, bool], ...]) -> list[Subject]:
    """Return nodes sorted by fields, the first field first; equal ones keep their order."""
    found = list(subjects)
    for name, descends in reversed(order):
        found.sort(key=FIELDS[name].have, reverse=descends)
    return found


def parts_of(condition: Condition) -> Iterator[Condition]:
    """Yield the conditions that must all hold."""
    if isinstance(condition, AllOf):
        for part in condition.parts:
            yield from parts_of(part)
    else:
        yield condition


def first_that_fits(condition: Condition, subjects: Iterable[Subject]) -> Subject | None:
    """Return the first kind of a node's GPUs for which a condition holds; None if for none."""
    return next((subject for subject in subjects if condition.holds(subject)), None)


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    at: int
    end: int
    quoted: bool = False


class _Parser:
    """A recursive descent over the tokens of a text."""

    def __init__(self, text: str, *, public: bool) -> None:
        self._text = text
        self._public = public
        self._tokens = list(_tokens(text))
        self._next = 0
        self._depth = 0

    def whole(self) -> Condition:
        found = self._any_of()
        if not self.is_at(END):
            raise self._unexpected("a condition")
        return found

    def is_at(self, word: str) -> bool:
        token = self._tokens[self._next]
        return token.text.lower() == word and not token.quoted

    def _any_of(self) -> Condition:
        parts = [self._all_of()]
        while self._skips("or"):
            parts.append(self._all_of())
        return AnyOf(tuple(parts)) if len(parts) > 1 else parts[0]

    def _all_of(self) -> Condition:
        parts = [self._one()]
        while self._skips("and") or not (self.is_at(END) or self.is_at("or") or self.is_at(")")):
            parts.append(self._one())
        return AllOf(tuple(parts)) if len(parts) > 1 else parts[0]

    def _one(self) -> Condition:
        at = self._tokens[self._next].at
        if not (self.is_at("not") or self.is_at("(")):
            return self._comparison()
        self._depth += 1
        if self._depth > QUERY_DEPTH_MAX:
            raise InvalidQuery(f"more than {QUERY_DEPTH_MAX} conditions in each other", at)
        if self._skips("not"):
            found: Condition = Not(self._one())
        else:
            self._take()
            found = self._any_of()
            self._expect(")")
        self._depth -= 1
        return found

    def _comparison(self) -> Comparison:
        name = self._take()
        if name.quoted or name.text in {END, *MARKS, *OPERATORS, *RESERVED}:
            raise _unexpected(name, "a field, such as vram")
        field = field_named(name.text, name.at)
        if self._public and field.local:
            why = f"other nodes do not know {name.text}, so a job cannot use it"
            raise InvalidQuery(why, name.at)
        operator = self._tokens[self._next]
        symbol = {"==": "="}.get(operator.text, operator.text.lower())
        if operator.quoted or symbol not in {*OPERATORS, "in"}:
            if field.kind is FLAG:
                return Comparison(name.text, "=", (1,), name.text)
            raise _unexpected(operator, f"one of {' '.join(field.kind.operators)}")
        if symbol not in field.kind.operators:
            allowed = " ".join(field.kind.operators)
            raise InvalidQuery(f"{name.text} takes {allowed}, not {operator.text}", operator.at)
        self._take()
        values = self._list(field) if symbol == "in" else (self._value(field),)
        end = self._tokens[self._next - 1].end
        return Comparison(name.text, symbol, values, self._text[name.at : end])

    def _list(self, field: Field) -> tuple[Value, ...]:
        self._expect("[")
        values = [self._value(field)]
        while self._skips(","):
            values.append(self._value(field))
        self._expect("]")
        return tuple(values)

    def _value(self, field: Field) -> Value:
        token = self._take()
        if not token.quoted and token.text in {END, *MARKS, *OPERATORS}:
            raise _unexpected(token, "a value")
        try:
            return field.kind.read(token.text)
        except ValueError as error:
            raise InvalidQuery(str(error), token.at) from None

    def _skips(self, word: str) -> bool:
        """Take the next token if it is this word; return whether it was."""
        found = self.is_at(word)
        self._next += found
        return found

    def _take(self) -> _Token:
        token = self._tokens[self._next]
        self._next = min(self._next + 1, len(self._tokens) - 1)
        return token

    def _expect(self, mark: str) -> None:
        if not self._skips(mark):
            raise self._unexpected(repr(mark))

    def _unexpected(self, wanted: str) -> InvalidQuery:
        return _unexpected(self._tokens[self._next], wanted)


def _unexpected(token: _Token, wanted: str) -> InvalidQuery:
    found = repr(token.text) if token.text or token.quoted else "the end"
    return InvalidQuery(f"expected {wanted}, found {found}", token.at)


def _tokens(text: str) -> Iterator[_Token]:
    """Yield operators, marks, words and quoted texts, and last the end."""
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        token = _quoted(text, at) if text[at] in QUOTATION_MARKS else _bare(text, at)
        yield token
        at = token.end
    yield _Token(END, len(text), len(text))


def _quoted(text: str, at: int) -> _Token:
    end = text.find(text[at], at + 1)
    if end < 0:
        raise InvalidQuery(f"the quotation mark {text[at]} is not closed", at)
    return _Token(text[at + 1 : end], at, end + 1, quoted=True)


def _bare(text: str, at: int) -> _Token:
    for symbol in (*OPERATORS, *MARKS):
        if text.startswith(symbol, at):
            return _Token(symbol, at, at + len(symbol))
    end = at + 1
    while end < len(text) and not text[end].isspace() and text[end] not in "!<>=()[],\"'":
        end += 1
    return _Token(text[at:end], at, end)
