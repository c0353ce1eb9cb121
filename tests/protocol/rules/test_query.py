"""The query language: what a text means, and what is wrong with it. Spec: specs/query.md."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.rules.query import (
    AllOf,
    AnyOf,
    Comparison,
    Not,
    first_that_fits,
    in_order,
    parse,
    sort_order,
)
from protocol.rules.query_fields import FIELDS, Subject, subjects_of
from protocol.values.errors import InvalidQuery
from protocol.values.limits import QUERY_BYTES_MAX, QUERY_DEPTH_MAX
from protocol.wire.messages import GpuGroup, Prices
from tests.protocol.rules.test_query_fields import H100, PEER, RECORD

A100 = GpuGroup("a100-40gb", 8, 40_536)
NODE = replace(
    RECORD, region="latin-america", gpus=(A100, H100), prices=Prices(10, 2, 600_000),
    soft_limits=(),
)  # fmt: skip


def kinds(record=NODE, **knows):
    return list(subjects_of(PEER, record, 61_000, **{"settled": True, "connected": False} | knows))


def selects(query: str) -> bool:
    return first_that_fits(parse(query), kinds()) is not None


@pytest.mark.parametrize(
    "query",
    [
        "gpu_class=h100 vram>=80G region=south-america price<2.5 isolation>=gvisor",
        "", "  ", "cpus=8", "cpus==8", "cpus >= 8 and cpus<=8", "cpus<9", "cpus>7", "cpus!=7",
        "gpus in [2, 4]", "region in [eu,us] or gpus=8", "not region=europe", "NOT cpus=1",
        "(cpus=1 or memory>=16G) settled", "not connected", "connected=false", "age<=60s",
        "soft_limits=none", "driver != podman", "driver='docker'", 'agent="mutirao/0.1.0"',
        f"peer=…{PEER[-8:]}", f"peer in [{PEER}]", "isolation=gvisor",
        "price_cpu<0.01 OR price_memory>1", "not not cpus=8", "cpus=8 not gpus=99",
    ],
)  # fmt: skip
def test_a_query_that_selects(query):
    assert selects(query)


@pytest.mark.parametrize(
    "query",
    [
        "gpu_class=a100 vram>=80G", "gpu_class=rtx-4090", "cpus>8", "cpus<8", "cpus!=8",
        "cpus=8 gpus=99", "not settled", "isolation>gvisor", "gpu_class!=h100 gpu_class!=a100",
        "region in [eu, us]", "age>1h", "cpus=1 or cpus=2 cpus=8", "soft_limits=memory",
    ],
)  # fmt: skip
def test_a_query_that_does_not(query):
    assert not selects(query)


def test_or_binds_less_than_standing_next_to_each_other():
    def cpus(number):
        return Comparison("cpus", "=", (number,), f"cpus={number}")

    assert parse("cpus=1 cpus=2 or not (cpus=3)") == AnyOf(
        (AllOf((cpus(1), cpus(2))), Not(cpus(3)))
    )


@pytest.mark.parametrize(
    "query,position,why",
    [
        ("gpus=1 vrma>=80G", 7, "there is no field 'vrma'; did you mean 'vram'?"),
        ("xyzzy=1", 0, "there is no field 'xyzzy'; fields are peer, gpu_class,"),
        ("VRAM>80G", 0, "did you mean 'vram'?"),
        ("vram>=80Q", 6, "'80Q' is not a size such as 512M or 2G"),
        ("gpu_class>h100", 9, "gpu_class takes = != in, not >"),
        ("settled<true", 7, "settled takes = !=, not <"),
        ("cpus", 4, "expected one of = != < <= > >= in, found the end"),
        ("cpus 8", 5, "expected one of = != < <= > >= in, found '8'"),
        ("cpus=", 5, "expected a value, found the end"),
        ("cpus=)", 5, "expected a value, found ')'"),
        ("cpus=1)", 6, "expected a condition, found ')'"),
        ("(cpus=1", 7, "expected ')', found the end"),
        ("cpus in 8", 8, "expected '[', found '8'"),
        ("cpus in [8", 10, "expected ']', found the end"),
        ("cpus=1 or", 9, "expected a field, such as vram, found the end"),
        ("or cpus=1", 0, "expected a field, such as vram, found 'or'"),
        ("'cpus'=1", 0, "expected a field, such as vram, found 'cpus'"),
        ("region='eu", 7, "the quotation mark ' is not closed"),
        ("cpus!8", 4, "found '!8'"),
        ("cpus=''", 5, "'' is not a whole number"),
        ("not " * (QUERY_DEPTH_MAX + 1) + "settled", 4 * QUERY_DEPTH_MAX, "more than 8"),
        ("(" * 100, QUERY_DEPTH_MAX, "more than 8 conditions in each other"),
        ("ü" * 129, QUERY_BYTES_MAX, "at most 256 bytes"),
    ],
)
def test_an_error_says_what_and_where(query, position, why):
    with pytest.raises(InvalidQuery) as raised:
        parse(query)
    assert raised.value.position == position
    assert str(raised.value).startswith(f"character {position + 1}: ")
    assert why in str(raised.value)
    assert InvalidQuery.code == "invalid-query"


WORDS = st.sampled_from([
    *FIELDS, "=", "!=", "<=", ">", "in", "[", "]", "(", ")", ",", "and", "or", "not", "8", "80G",
    "h100", "2.5", "1h", "true", "'", '"', "!", "\ud800", "é", "\0",
])  # fmt: skip


@given(st.text() | st.lists(WORDS, max_size=40).map(" ".join) | st.lists(WORDS).map("".join))
def test_any_text_is_a_query_or_an_invalid_query(text):
    try:
        condition = parse(text)
    except InvalidQuery as error:
        assert 0 <= error.position <= max(len(text), QUERY_BYTES_MAX)
        return
    for subject in (*kinds(), Subject(PEER, RECORD, None)):
        assert condition.holds(subject) in {True, False}


OPERATORS = {
    "=": int.__eq__, "!=": int.__ne__, "<": int.__lt__, "<=": int.__le__, ">": int.__gt__,
    ">=": int.__ge__,
}  # fmt: skip
CONDITIONS = st.recursive(
    st.tuples(st.sampled_from(sorted(OPERATORS)), st.integers(6, 10)).map(
        lambda pair: (f"cpus{pair[0]}{pair[1]}", OPERATORS[pair[0]](8, pair[1]))
    ),
    lambda inner: (
        st.tuples(inner, inner).map(
            lambda two: (f"({two[0][0]} or {two[1][0]})", two[0][1] or two[1][1])
        )
        | st.tuples(inner, inner).map(
            lambda two: (f"({two[0][0]} {two[1][0]})", two[0][1] and two[1][1])
        )
        | inner.map(lambda one: (f"not {one[0]}", not one[1]))
    ),
    max_leaves=5,
)


@given(CONDITIONS)
def test_a_text_means_what_python_says(condition):
    text, expected = condition
    assert selects(text) == expected


@pytest.mark.parametrize(
    "text,order",
    [
        ("", ()),
        ("price", (("price", False),)),
        ("price, -vram", (("price", False), ("vram", True))),
    ],
)
def test_an_order(text, order):
    assert sort_order(text) == order


@pytest.mark.parametrize("text,position", [("prise", 0), ("price,-vrm", 7), ("price,", 6)])
def test_an_order_with_a_fault(text, position):
    with pytest.raises(InvalidQuery, match="there is no field") as raised:
        sort_order(text)
    assert raised.value.position == position


def test_nodes_in_order():
    def node(cpus, memory):
        return Subject(PEER, replace(RECORD, cpus=cpus, memory_mib=memory), None)

    first, second, third = node(1, 5), node(2, 5), node(1, 9)
    nodes = [first, second, third]
    assert in_order(nodes, ()) == nodes
    assert in_order(nodes, (("cpus", False), ("memory", True))) == [third, first, second]
    assert in_order(nodes, (("cpus", True),)) == [second, first, third]


def test_the_specification_lists_every_field():
    text = (Path(__file__).parents[3] / "specs/query.md").read_text()
    for name, field in FIELDS.items():
        local = "yes" if field.local else ""
        assert f"| `{name}` | {field.kind.name} | {local} | {field.about} |" in text
