"""Names that jobs ask for and owners allow.

Spec: specs/egress.md#names.
"""

import pytest

from protocol.values.egress import (
    CLASS_OF_ANY,
    NAMES_MAX,
    SETS,
    SUFFIXES_MAX,
    Level,
    class_of,
    covers,
    expanded,
    faults_of,
    is_name,
    level_of,
    level_of_class,
    may_allow,
    refused,
)


def test_sets_are_expanded_and_names_come_once() -> None:
    wanted = expanded(["PyPI", "Example.ORG", "example.org"])
    assert wanted == ("pypi.org", "files.pythonhosted.org", "example.org")
    assert all(is_name(name) for names in SETS.values() for name in names)


@pytest.mark.parametrize(
    "name",
    ["", "a b", "http://pypi.org", "pypi.org/simple", "pypi.org:443", "*", "*.org", "a.*.org",
     "-a.org", "a..org", ".org", "192.0.2.1", "2001:db8::1", "x" * 64 + ".org", "ä.org",
     "a.org\0", f"{'a.' * 126}aa"],
)  # fmt: skip
def test_what_is_no_name_is_refused(name: str) -> None:
    assert not is_name(name)
    assert faults_of((name,))


def test_any_stands_alone() -> None:
    assert not faults_of(("any",))
    assert faults_of(("any", "pypi.org")) == ["allow_net: any stands alone; leave the names out"]


def test_the_names_and_their_suffixes_are_bounded() -> None:
    assert not faults_of(tuple(f"{n}.example.org" for n in range(NAMES_MAX)))
    assert faults_of(tuple(f"{n}.example.org" for n in range(NAMES_MAX + 1)))
    assert not faults_of(tuple(f"a.n{n}.org" for n in range(SUFFIXES_MAX)))
    assert faults_of(tuple(f"a.n{n}.org" for n in range(SUFFIXES_MAX + 1)))


@pytest.mark.parametrize(
    "owned, wanted, allowed",
    [
        ("a.org", "a.org", True),
        ("a.org", "b.a.org", False),
        ("*.a.org", "b.a.org", True),
        ("*.a.org", "c.b.a.org", True),
        ("*.a.org", "a.org", False),
        ("*.a.org", "ba.org", False),
        ("*.a.org", "*.a.org", True),
        ("*.a.org", "*.b.a.org", True),
        ("*.b.a.org", "*.a.org", False),
        ("a.org", "any", False),
        ("any", "any", True),
        ("any", "a.org", True),
    ],
)
def test_a_name_stands_for_what_it_says(owned: str, wanted: str, allowed: bool) -> None:
    assert covers((owned,), wanted) is allowed
    assert refused((owned,), (wanted,)) == (() if allowed else (wanted,))


def test_a_call_says_no_more_than_the_suffixes() -> None:
    one, two = class_of(("cdn.a.org", "*.a.org", "a.org")), class_of(("b.org", "x.y.a.org"))
    assert len(one) == 4
    assert one in two
    assert len(two) == 8
    assert [level_of_class(each) for each in (b"", one, class_of(("any",)))] == list(Level)
    assert [level_of(each) for each in ((), ("a.org",), ("any",))] == list(Level)


def test_who_owns_no_name_of_a_suffix_can_tell() -> None:
    wanted = class_of(("a.org", "b.org"))
    assert may_allow(("any",), wanted)
    assert may_allow(("x.a.org", "*.b.org"), wanted)
    assert not may_allow(("a.org",), wanted)
    assert not may_allow((), wanted)
    assert may_allow((), b"")
    assert not may_allow(("a.org",), CLASS_OF_ANY)
