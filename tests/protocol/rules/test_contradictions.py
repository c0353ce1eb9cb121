"""Conditions that no node can meet. Spec: specs/query.md#contradictions."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.rules.contradictions import conditions_of, contradiction
from protocol.rules.query import parse
from protocol.rules.query_fields import Subject
from protocol.wire.job import Resources
from tests.protocol.rules.test_query_fields import PEER, RECORD

WANTED = Resources(2, 4096, 1024, 1, "a100-80gb", 40 * 1024)


@pytest.mark.parametrize(
    "query,why",
    [
        ("vram>80G vram<40G", "vram<40G contradicts vram>80G"),
        ("vram>80G cpus=4 (disk>1G (vram=80G))", "vram=80G contradicts vram>80G"),
        ("cpus in [1, 2] cpus>=3", "cpus>=3 contradicts cpus in [1, 2]"),
        ("cpus=1 cpus!=1", "cpus!=1 contradicts cpus=1"),
        ("cpus>1 cpus<2", "cpus<2 contradicts cpus>1"),
        ("price<0", "price<0: nothing is less than 0"),
        ("settled settled=false", "settled=false contradicts settled"),
        ("region=eu region=us", "region=us contradicts region=eu"),
        ("driver=docker driver!=docker", "driver!=docker contradicts driver=docker"),
        ("gpu_class=h100 gpu_class=a100", "gpu_class=a100 contradicts gpu_class=h100"),
        ("isolation>=vm isolation<gvisor", "isolation<gvisor contradicts isolation>=vm"),
        ("cpus>4 (cpus=1 or cpus=2 disk>1G)", "cpus=1 contradicts cpus>4"),
    ],
)
def test_conditions_that_contradict_each_other(query, why):
    assert contradiction(parse(query)) == why


@pytest.mark.parametrize(
    "query",
    [
        "", "cpus>=4 cpus<=4", "cpus in [1, 5] cpus>4", "cpus!=1 cpus!=2", "cpus>4 memory<2G",
        "cpus>4 (cpus=1 or cpus=5)", "region=eu region=europe", "region=us region=north-america",
        "gpu_class=h100 gpu_class=h100-80gb", "driver=docker driver=embedded", "not cpus<0",
        f"peer={PEER} peer={PEER[-8:]}", "region!=eu region=us",
    ],
)  # fmt: skip
def test_conditions_that_do_not(query):
    assert contradiction(parse(query)) is None


@pytest.mark.parametrize(
    "query,why",
    [
        ("gpus=0", "gpus=0 contradicts the job's gpus>=1"),
        ("cpus<2", "cpus<2 contradicts the job's cpus>=2"),
        ("vram<=24G", "vram<=24G contradicts the job's vram>=40 GiB"),
        ("gpu_class=h100", "gpu_class=h100 contradicts the job's gpu_class=a100-80gb"),
        ("region=us", "region=us contradicts the job's region=europe"),
        ("gpu_class=a100 region=eu gpus>=1 vram>=80G memory<8G disk>1M", None),
    ],
)
def test_conditions_against_what_the_job_needs(query, why):
    assert contradiction(parse(query), conditions_of(WANTED, "europe")) == why


def test_a_job_without_a_gpu_says_nothing_of_gpus():
    names = [each.name for each in conditions_of(Resources(), "")]
    assert names == ["cpus", "memory", "disk"]


NUMBERS = st.tuples(
    st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), st.integers(0, 4)
).map(lambda pair: f"cpus{pair[0]}{pair[1]}")  # fmt: skip


@given(st.lists(NUMBERS, max_size=3), st.lists(NUMBERS, min_size=1, max_size=2))
def test_what_a_node_meets_is_no_contradiction(together, alternatives):
    condition = parse(f"{' '.join(together)} ({' or '.join(alternatives)})")
    nodes = [Subject(PEER, replace(RECORD, cpus=cpus), None) for cpus in range(7)]
    if any(condition.holds(node) for node in nodes):
        assert contradiction(condition) is None
