"""Matching: who can serve a job, and a sentence for each reason why not.

Spec: specs/auction.md#matching.
"""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.rules.capacity import Capacity, Device, reserve
from protocol.rules.matching import (
    Demand,
    Explanation,
    demand_of_call,
    demand_of_job,
    explain,
    fits,
    mismatches,
    sentence_of_refusals,
)
from protocol.values.egress import class_of
from protocol.values.ids import PeerId
from protocol.values.reasons import Mismatch, Refusal
from protocol.wire.job import JobSpec, Resources, Terms, Workload
from protocol.wire.messages import Call, CapabilityRecord, GpuGroup, Listing, Prices
from tests.strategies import records

RECORD = CapabilityRecord(
    1, 0, 60_000, (), True, "eu", 8, 16_384, 50_000,
    (GpuGroup("rtx-4090", 2, 24_564), GpuGroup("rtx-3060", 1, 12_288)),
    ("embedded",), Prices(1_000, 100, 50_000),
)  # fmt: skip
DEMAND = Demand(Resources(), 10**6, "", ())
PEER = PeerId("12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X")


def explained(demand: Demand, records: list[CapabilityRecord], avoided: int = 0) -> Explanation:
    return explain(demand, [Listing(PEER, record, 0) for record in records], avoided)


GPUS = st.lists(
    st.builds(GpuGroup, st.sampled_from(["a", "b"]), st.integers(1, 3), st.sampled_from([8, 80])),
    max_size=3,
)


def wanting(**resources: object) -> Demand:
    return replace(DEMAND, resources=Resources(**resources))


@pytest.mark.parametrize(
    "demand, reasons",
    [
        (DEMAND, ()),
        (wanting(cpus=9), (Mismatch.CPUS,)),
        (wanting(memory_mib=16_385), (Mismatch.MEMORY,)),
        (wanting(disk_mib=50_001), (Mismatch.DISK,)),
        (wanting(gpus=4), (Mismatch.GPUS,)),
        (wanting(gpus=3), ()),
        (wanting(gpus=1, gpu_class="h200"), (Mismatch.GPU_CLASS,)),
        (wanting(gpus=2, gpu_class="rtx-3060"), (Mismatch.GPU_CLASS,)),
        (wanting(gpus=3, vram_mib=20_000), (Mismatch.VRAM,)),
        (wanting(gpus=2, vram_mib=20_000), ()),
        (replace(DEMAND, region="br"), (Mismatch.REGION,)),
        (replace(DEMAND, region="eu"), ()),
        (replace(DEMAND, drivers=("docker",)), (Mismatch.DRIVER,)),
        (replace(DEMAND, drivers=("docker", "embedded")), ()),
        (replace(DEMAND, hard_limits=True), ()),
        (replace(DEMAND, rate_max=1_049), (Mismatch.PRICE,)),
        (replace(DEMAND, rate_max=1_050), ()),
        (replace(wanting(cpus=9), region="br"), (Mismatch.CPUS, Mismatch.REGION)),
    ],
)
def test_each_constraint_has_its_reason(demand: Demand, reasons: tuple[Mismatch, ...]) -> None:
    assert mismatches(demand, PEER, RECORD) == reasons


def test_a_node_that_does_not_provide_has_that_reason_only() -> None:
    record = replace(RECORD, providing=False)
    assert mismatches(wanting(cpus=99), PEER, record) == (Mismatch.NOT_PROVIDING,)


def test_soft_limits_fit_calls_that_do_not_require_hard_ones() -> None:
    soft, insists = replace(RECORD, soft_limits=("memory",)), replace(DEMAND, hard_limits=True)
    assert mismatches(DEMAND, PEER, soft) == ()
    assert mismatches(insists, PEER, soft) == (Mismatch.SOFT_LIMITS,)
    assert "1 has limits that are only watched (soft)" in explained(insists, [soft]).why


@pytest.mark.parametrize(
    "wanted,level,why",
    [
        ((), 0, ""),
        (("a.org",), 0, "1 does not let jobs reach the network"),
        (("a.org",), 1, ""),
        (("a.org",), 2, ""),
        (("any",), 1, "1 does not let jobs reach any name of the network"),
        (("any",), 2, ""),
    ],
)
def test_a_record_says_how_far_jobs_may_reach(
    wanted: tuple[str, ...], level: int, why: str
) -> None:
    demand, record = replace(DEMAND, egress=class_of(wanted)), replace(RECORD, egress=level)
    assert mismatches(demand, PEER, record) == ((Mismatch.EGRESS,) if why else ())
    assert why in explained(demand, [record]).why


@given(GPUS, st.integers(0, 4), st.sampled_from(["", "a", "b"]), st.sampled_from([0, 8, 80]))
def test_an_idle_node_matches_exactly_if_it_can_reserve(
    groups: list[GpuGroup], gpus: int, gpu_class: str, vram_mib: int
) -> None:
    """The record says of a node what its own capacity says of it."""
    record = replace(RECORD, gpus=tuple(groups))
    wanted = Resources(gpus=gpus, gpu_class=gpu_class, vram_mib=vram_mib)
    devices = [Device(f"{place}-{number}", group.gpu_class, group.vram_mib)
               for place, group in enumerate(groups) for number in range(group.count)]  # fmt: skip
    capacity = Capacity(record.cpus, record.memory_mib, record.disk_mib, tuple(devices))
    demand = replace(DEMAND, resources=wanted)
    if gpus or not (gpu_class or vram_mib):
        assert bool(mismatches(demand, PEER, record)) == (reserve(capacity, wanted) is None)


def test_a_call_asks_for_what_its_job_asks_for() -> None:
    spec = JobSpec(
        "job",
        Workload(bytes(32), ("a",), resources=Resources(3)),
        Terms(9, 2, "eu", 0, ("d",), hard_limits=True),
    )
    call = Call(
        bytes(16), 2, 0, Resources(3), 9, 1_000, 100, 0, 2_000, 0, bytes(32), 0, "eu", ("d",),
        hard_limits=True,
    )  # fmt: skip
    demand = Demand(Resources(3), 9, "eu", ("d",), hard_limits=True)
    assert demand_of_call(call) == demand_of_job(spec) == demand


def test_the_most_frequent_reason_comes_first() -> None:
    small, far = replace(RECORD, cpus=1), replace(RECORD, cpus=2, region="br")
    told = explained(replace(wanting(cpus=4), region="eu"), [RECORD, small, far])
    assert (told.nodes, told.eligible) == (3, 1)
    assert told.reasons == ((Mismatch.CPUS, 2), (Mismatch.REGION, 1))
    assert told.why == (
        "1 of 3 known nodes can serve this job: "
        "2 have too few CPUs (asked 4, most 8); 1 is not in region eu"
    )


@pytest.mark.parametrize(
    "demand, one",
    [
        (wanting(cpus=9), "1 has too few CPUs (asked 9, most 8)"),
        (wanting(memory_mib=2**20), "1 has too little memory (asked 1 TiB, most 16 GiB)"),
        (wanting(memory_mib=16_385), "1 has too little memory (asked 16385 MiB, most 16384 MiB)"),
        (wanting(disk_mib=50_001 * 2), "1 has too little disk (asked 97.7 GiB, most 48.8 GiB)"),
        (wanting(gpus=1, gpu_class="h200"), "1 has no GPU of class h200"),
        (wanting(gpus=1, vram_mib=30_000), "1 has too little VRAM (asked 29.3 GiB, most 24 GiB)"),
        (replace(DEMAND, region="br"), "1 is not in region br"),
        (replace(DEMAND, drivers=("docker",)), "1 lacks the sandbox (docker)"),
        (replace(DEMAND, rate_max=277_777), None),
        (replace(DEMAND, rate_max=1),
         "1 lists a price above 0.0000 credits an hour (lowest 0.0038) and may ask less"),
    ],
)  # fmt: skip
def test_one_node_is_spoken_of_as_one(demand: Demand, one: str | None) -> None:
    why = "1 of 1 known nodes can serve this job"
    if one:
        why = f"0 of 1 known nodes can serve this job: {one}"
    assert explained(demand, [RECORD]).why == why


def test_who_only_submits_jobs_is_told_apart() -> None:
    lends_nothing = replace(RECORD, providing=False)
    assert explained(DEMAND, [lends_nothing]).why.endswith(": 1 takes no jobs now")
    assert explained(DEMAND, [lends_nothing] * 2).why.endswith(": 2 take no jobs now")


def test_a_node_that_knows_no_other_says_so() -> None:
    assert explained(DEMAND, []).why == "no other node is known"


def test_who_failed_before_is_known_and_does_not_count() -> None:
    told = explained(DEMAND, [], avoided=2)
    assert (told.nodes, told.eligible) == (2, 0)
    assert told.why == "0 of 2 known nodes can serve this job: 2 failed it before"


@given(records(JobSpec), st.lists(records(CapabilityRecord), max_size=4))
def test_any_demand_and_records_are_explained(spec: JobSpec, known: list[CapabilityRecord]) -> None:
    told = explained(demand_of_job(spec), known)
    assert told.nodes == len(known)
    assert told.eligible == sum(
        not mismatches(demand_of_job(spec), PEER, record) for record in known
    )
    assert "\n" not in told.why
    assert not known or told.why.startswith(f"{told.eligible} of {told.nodes} known nodes")


def test_a_gang_that_is_spread_needs_a_region_for_each_member() -> None:
    demand = replace(DEMAND, nodes=3, spread=True)
    known = [replace(RECORD, region=region) for region in ("eu", "eu", "us", "")]
    found = explained(demand, known)
    assert (found.eligible, found.slots) == (3, 2)
    assert found.why == (
        "3 of 4 known nodes can serve this job: they are in 2 of the 3 regions that it needs;"
        " 1 states no region"
    )
    assert explained(demand, [*known, replace(RECORD, region="asia")]).slots == 3


def test_refusals_are_counted_by_reason() -> None:
    told = sentence_of_refusals([Refusal.BUSY, 99, Refusal.BUSY])
    assert told == "2 refused: busy with other jobs; 1 refused: reason 99"
    assert sentence_of_refusals([]) == ""


H100, A100 = GpuGroup("h100-80gb", 1, 81_559), GpuGroup("a100-40gb", 1, 40_960)


@pytest.mark.parametrize(
    "where,selected",
    [("cpus>=8", True), ("cpus>8", False), (f"peer={PEER}", True), (f"peer!={PEER}", False),
     ("gpu_class=h100", True), ("settled", False), ("of_a_later_version=1", False)],
)  # fmt: skip
def test_a_query_selects_nodes(where: str, selected: bool) -> None:
    demand, record = replace(DEMAND, where=where), replace(RECORD, gpus=(H100, A100))
    assert mismatches(demand, PEER, record) == (() if selected else (Mismatch.WHERE,))
    assert fits(demand, PEER, record) == selected


@pytest.mark.parametrize(
    "gpu_class,gpus,reasons",
    [("", (H100,), ()), ("", (H100, A100), (Mismatch.WHERE,)), ("h100-80gb", (H100, A100), ()),
     ("", (A100,), (Mismatch.WHERE,)), ("", (), (Mismatch.GPUS,))],
)  # fmt: skip
def test_a_query_holds_for_every_gpu_that_the_job_may_get(
    gpu_class: str, gpus: tuple[GpuGroup, ...], reasons: tuple[Mismatch, ...]
) -> None:
    wanted = Resources(gpus=1, gpu_class=gpu_class)
    demand = replace(DEMAND, resources=wanted, where="vram>=80G")
    assert mismatches(demand, PEER, replace(RECORD, gpus=gpus)) == reasons


def test_who_is_not_selected_is_counted() -> None:
    told = explained(replace(DEMAND, where="cpus>99"), [RECORD])
    assert told.why.endswith(": 1 is not selected by 'cpus>99'")
