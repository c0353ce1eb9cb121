"""What would let more nodes serve a job. Spec: specs/advice.md."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.rules.advice import NEAR_MAX, Change, advise, with_holders
from protocol.rules.matching import Demand, demand_of_job, explain, fits
from protocol.rules.pricing import Cap
from protocol.values.ids import Digest, PeerId
from protocol.values.quantities import mib_of
from protocol.values.reasons import Mismatch
from protocol.values.units import rate_of_hourly
from protocol.wire.job import JobSpec, LayerRef, Resources, Workload
from protocol.wire.messages import CapabilityRecord, GpuGroup, Listing, Prices
from tests.strategies import records

RECORD = CapabilityRecord(
    1, 1, 60_000, (), True, "europe", 8, 8_192, 100_000, (), ("docker",), Prices(1_000)
)
DEMAND = Demand(Resources(4, 4_096), 10**6, "", ())
H100, L4 = GpuGroup("h100-80gb", 2, 81_559), GpuGroup("l4", 1, 23_034)


def listings(*changes: dict) -> list[Listing]:
    return [
        Listing(PeerId(f"peer{n}"), replace(RECORD, **each), 60_000)
        for n, each in enumerate(changes)
    ]


def changes_of(demand: Demand, *changes: dict) -> list[tuple[str, str | None, int]]:
    advice = advise(demand, listings(*changes), 0, (), None)
    return [(each.field, each.value, each.nodes) for each in advice.changes]


def test_the_nearest_miss_comes_first() -> None:
    nodes = listings(
        {"memory_mib": 1_024}, {"memory_mib": 3_584}, {}, {"cpus": 1, "memory_mib": 16},
        {"region": "oceania"},
    )  # fmt: skip
    advice = advise(replace(DEMAND, region="europe"), nodes, 1, (), None)
    assert [(near.peer, near.reason, near.wanted, near.has, near.gap) for near in advice.near] == [
        ("peer1", Mismatch.MEMORY, "4 GiB", "3.5 GiB", 12),
        ("peer0", Mismatch.MEMORY, "4 GiB", "1 GiB", 75),
        ("peer4", Mismatch.REGION, "europe", "oceania", 100),
    ]
    assert advice.explanation == explain(replace(DEMAND, region="europe"), nodes, 1)
    assert advice.avoided == 1
    assert len(advise(DEMAND, listings(*[{"cpus": 1}] * 20), 0, (), None).near) == NEAR_MAX


def test_the_smallest_change_and_one_that_helps_half() -> None:
    sizes = (3_584, 3_584, 2_048, 2_048, 1_000, 512)
    assert changes_of(DEMAND, *({"memory_mib": mib} for mib in sizes)) == [
        ("memory_mib", "2G", 4), ("memory_mib", "3584M", 2),
    ]  # fmt: skip
    assert changes_of(DEMAND, {"cpus": 3}) == [("cpus", "3", 1)]
    assert changes_of(DEMAND, {}) == []


GPU = Demand(Resources(1, 16, 1, 2, "", 0), 10**6, "", ())


@pytest.mark.parametrize(
    "demand,node,change",
    [
        (replace(GPU, resources=Resources(gpus=2)), {"gpus": (L4,)}, ("gpus", "1", 1)),
        (
            replace(GPU, resources=Resources(gpus=1, gpu_class="h200")),
            {"gpus": (L4, H100)},
            ("gpu_class", "h100-80gb", 1),
        ),
        (
            replace(GPU, resources=Resources(gpus=2, vram_mib=90 * 1024)),
            {"gpus": (L4, H100)},
            ("vram_mib", "80G", 1),
        ),
        (replace(DEMAND, region="oceania"), {}, ("region", None, 1)),
        (replace(DEMAND, drivers=("embedded",)), {}, ("drivers", None, 1)),
        (replace(DEMAND, hard_limits=True), {"soft_limits": ("cpu",)}, ("hard_limits", None, 1)),
        (replace(DEMAND, egress=b"*"), {"egress": 1}, ("allow_net", None, 1)),
        (replace(DEMAND, where="cpus>8"), {}, ("where", None, 1)),
        (replace(DEMAND, rate_max=3_999), {}, ("max_price", "0.0144", 1)),
        (DEMAND, {"disk_mib": 1_000}, ("disk_mib", "1000M", 1)),
    ],
)
def test_a_change_lets_the_node_serve_the_job(demand, node, change) -> None:
    assert changes_of(demand, node) == [change]


@pytest.mark.parametrize(
    "where,node,miss",
    [
        ("cpus>8 disk>1G", {}, ("cpus>8", "cpus=8")),
        (
            "memory>=16G price<0.001 isolation>=gvisor region!=eu", {},
            ("memory>=16G price<0.001 isolation>=gvisor region!=eu",
             "memory=8 GiB price=0.0036 isolation=container region=europe"),
        ),
        ("gpu_class=h100 vram>=80G", {"gpus": (L4, replace(H100, vram_mib=40_960))},
         ("vram>=80G", "vram=40 GiB")),
        ("cpus>8 or cpus<8", {}, ("cpus>8 or cpus<8", "not selected")),
        ("driver=x driver!=docker", {}, ("driver=x driver!=docker", "driver=docker")),
    ],
)  # fmt: skip
def test_what_a_query_wants_and_a_node_has(where: str, node: dict, miss: tuple) -> None:
    (near,) = advise(replace(DEMAND, where=where), listings(node), 0, (), None).near
    assert (near.reason, (near.wanted, near.has)) == (Mismatch.WHERE, miss)


@given(
    st.lists(
        st.builds(
            GpuGroup, st.sampled_from(["a", "b"]), st.integers(1, 3),
            st.sampled_from([24_576, 81_920]),
        ),
        max_size=3,
    ),
    st.integers(1, 4), st.sampled_from(["", "a"]), st.sampled_from([0, 40 * 1024]),
)  # fmt: skip
def test_a_change_of_gpus_is_enough(
    groups: list[GpuGroup], count: int, gpu_class: str, vram_mib: int
) -> None:
    wanted = Resources(1, 16, 1, count, gpu_class, vram_mib)
    (node,) = listings({"gpus": tuple(groups)})
    for change in advise(replace(GPU, resources=wanted), [node], 0, (), None).changes:
        assert change.value is not None
        value = {"gpus": int, "vram_mib": mib_of, "gpu_class": str}[change.field](change.value)
        changed = replace(wanted, **{change.field: value})
        assert fits(replace(GPU, resources=changed), node.peer, node.record)


def test_a_node_without_a_region_could_serve_a_gang_that_is_not_spread() -> None:
    demand = replace(DEMAND, nodes=2, spread=True)
    assert changes_of(demand, {"region": ""}) == [("spread_regions", None, 1)]
    (near,) = advise(demand, listings({"region": ""}), 0, (), None).near
    assert (near.wanted, near.has) == ("a region", "none")


def test_a_node_without_gpus_cannot_serve_with_fewer() -> None:
    assert changes_of(replace(GPU, resources=Resources(gpus=2)), {}) == []
    assert changes_of(DEMAND, {"providing": False}) == []


@given(st.integers(1, 10**12))
def test_a_price_that_is_advised_is_enough(rate: int) -> None:
    one = listings({"cpus": 1, "prices": Prices(rate)})
    demand = Demand(Resources(1), rate - 1 or 1, "", ())
    for change in advise(demand, one, 0, (), None).changes:
        assert change.field == "max_price"
        assert change.value is not None
        if rate < 10**12 - 10**6:
            assert rate <= rate_of_hourly(change.value) <= rate + 30


def test_prices_of_nodes_that_fit() -> None:
    nodes = listings({"prices": Prices(2)}, {"prices": Prices(1)}, {"cpus": 1})
    cap = Cap(4, "the lowest")
    advice = advise(DEMAND, nodes, 0, {"peer0", "peer2"}, cap)
    assert (advice.listed, advice.answering, advice.cap) == ((4, 8), 1, cap)
    dear = advise(replace(DEMAND, rate_max=3), nodes, 0, (), None)
    assert dear.listed == (4, 8), "they may ask less"
    none = advise(DEMAND, [], 0, (), None)
    assert (none.cap, none.listed, none.changes) == (None, (), ())


@given(records(JobSpec), st.lists(records(CapabilityRecord), max_size=4))
def test_any_job_is_advised_about(spec: JobSpec, known: list[CapabilityRecord]) -> None:
    nodes = [Listing(PeerId(str(n)), record, 0) for n, record in enumerate(known)]
    advice = advise(demand_of_job(spec), nodes, 0, (), None)
    assert advice.explanation == explain(demand_of_job(spec), nodes)
    assert all(isinstance(each, Change) and each.nodes > 0 for each in advice.changes)


def test_nodes_that_fit_and_have_the_image_or_a_part_of_it_are_counted() -> None:
    image = Digest(bytes(range(32)))
    whole, part = {"images": (image[:8],)}, {"layers": (b"layer--1",)}
    nodes = listings(whole, part, whole | part, part | {"cpus": 1}, {})
    workload = Workload(image, ("true",), layers=(LayerRef(b"layer--1", 5),))
    told = with_holders(advise(DEMAND, nodes, 0, (), None), DEMAND, workload, nodes)
    assert (told.with_image, told.with_layers) == (2, 1)
