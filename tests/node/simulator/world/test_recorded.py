"""The world of a trace: what its nodes lend, what they ask, and how far they are.

Spec: specs/trace.md#replay.
"""

import numpy as np
import pytest

from node.simulator.containers import work_of
from node.simulator.scenario import Scenario
from node.simulator.simulation import Simulation
from node.simulator.traces import read_trace
from node.simulator.world.bandwidth import rate_of
from node.simulator.world.pricing import ChangingPrices, PriceChange
from node.simulator.world.recorded import (
    RecordedDemand,
    RecordedLatency,
    RecordedLines,
    RecordedPrices,
    RecordedSupply,
    image_of,
)
from node.trace_format import (
    TracedBid,
    TracedEvent,
    TracedGpus,
    TracedJob,
    TracedOffer,
    TracedRoundTrip,
    encode_line,
)
from protocol.wire.job import faults
from tests.node.simulator.small_trace import FLOOR_PERCENT, HEADER, PROVIDERS, write_trace

JOB = TracedJob(
    400, 1, 1, 30_000_000, 70, 2, 64, 1024, 9_000, 5, 1, 1, "a100", 0, 5_000, 150, 3, 1, 2, 1, 1
)
LINES = [
    HEADER,
    TracedOffer(0, 3, 8, 1_000, 9_999, 100, 10, 700, (TracedGpus("a100", 2, 81_920),), 2, (1,)),
    TracedOffer(0, 5, 4, 2_000, 9_999, 200, 0, 0),
    TracedOffer(0, 7, 4, 2_000, 9_999, 300, 0, 0),
    TracedRoundTrip(0, 3, 30_000), TracedRoundTrip(0, 5, 90_000), TracedRoundTrip(0, 7, 50_000),
    JOB,
    TracedJob(900, 2, 1, 30_000_000, 0, 1, 64, 1024, 9_000, 5, 1),
    TracedEvent(500, 1, "bids", bids=(TracedBid(3, 728, eligible=True),)),
    TracedEvent(950, 2, "bids",
                bids=(TracedBid(3, 80, eligible=True), TracedBid(5, 120, eligible=True))),
    TracedEvent(980, 2, "fetching", provider=5),
    TracedEvent(1_980, 2, "starting", provider=5),
    TracedEvent(4_000, 2, "returning", usage_ms=2_000, exit_code=0),
    TracedOffer(6_000, 5, 4, 2_000, 9_999, 200, 0, 0, images=(1,)),
    TracedOffer(7_000, 5, 4, 2_000, 9_999, 300, 0, 0, images=(1,)),
]  # fmt: skip


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "trace.jsonl"
    path.write_bytes(b"".join(map(encode_line, LINES)))
    return path


def test_providers_lend_what_they_lent_at_their_prices(file):
    supply = RecordedSupply(file)
    first, second, third = supply.kinds
    assert (first.capacity.cpus, first.capacity.memory_mib) == (8, 1_000)
    assert [device.gpu_class for device in first.capacity.devices] == ["a100", "a100"]
    assert (first.prices(100).cpu, first.prices(100).memory_gib, first.prices(50).gpu) == (
        100, 10, 350,
    )  # fmt: skip
    assert (first.images, second.images, third.images) == ((image_of(1),), (), ())
    assert supply.kind_of(8, 1).tolist()[1:] == [0, 1, 2, 0, 1, 2, 0]
    assert set(supply.price_percent(8, 1).tolist()) == {100}


def test_distances_are_those_measured_and_between_two_the_longer(file):
    links = RecordedLatency(file).links(8, 1)
    zeros, others = np.zeros(7, np.int64), np.arange(1, 8)
    assert links.ticks(zeros, others).tolist() == [150, 450, 250, 150, 450, 250, 150]
    assert links.ticks(others, zeros).tolist() == links.ticks(zeros, others).tolist()
    assert links.ticks(np.array([1, 3]), np.array([2, 1])).tolist() == [450, 250]
    assert links.regions == ("", "region-1", "region-2")
    assert links.region.tolist()[1:4] == [2, 0, 0]


def test_floors_follow_from_the_lowest_bids_and_list_prices_change(file):
    prices = RecordedPrices(file)
    assert isinstance(prices, ChangingPrices)
    assert list(prices.changes(1)) == [PriceChange(0, 100, 79)]
    assert list(prices.changes(2)) == [PriceChange(0, 100, 60), PriceChange(7_000, 150, 60)]
    assert list(prices.changes(3)) == [PriceChange(0, 100, 60)], "one that never bid"
    assert list(prices.changes(5)) == list(prices.changes(2))
    assert prices.lowest_percent == 60


def test_lines_are_as_fast_as_the_first_fetches(file, tmp_path):
    sends, receives = RecordedLines(file=file).rates(4, 1)
    assert set(sends.tolist()) == set(receives.tolist()) == {30_000_000 // 10_000}
    file.write_bytes(b"".join(map(encode_line, LINES[:7])))
    sends, _ = RecordedLines(8.0, file=file).rates(4, 1)
    assert set(sends.tolist()) == {rate_of(8.0)}


def test_jobs_need_what_they_needed(file):
    first, second = RecordedDemand(file).arrivals(10_000, 1, 1)
    assert (first.at_ms, second.at_ms, first.requester) == (400, 900, 0)
    spec = first.spec
    assert work_of(spec.workload) == work_of(second.spec.workload) == 2_000
    assert spec.workload.image == image_of(1)
    assert [each.blob.size for each in spec.workload.inputs] == [70]
    assert spec.workload.resources.gpu_class == "a100"
    terms = spec.terms
    assert (terms.rate_max, terms.cap_percent, terms.priority, terms.retries) == (5_000, 150, 3, 1)
    assert (terms.region, terms.profile, terms.queue_ms) == ("region-2", 1, 5)
    assert not faults(spec)
    assert not faults(second.spec)
    assert len(list(RecordedDemand(file).arrivals(900, 1, 1))) == 1


def test_a_gang_comes_once(tmp_path):
    path = write_trace(tmp_path / "t", jobs=2, nodes=2)
    arrivals = list(RecordedDemand(path).arrivals(100_000, 1, 1))
    assert [each.spec.terms.nodes for each in arrivals] == [2, 2]
    assert len(read_trace(path).jobs) == 4


def test_a_simulated_world_is_that_of_the_trace(tmp_path):
    path = write_trace(tmp_path / "t", jobs=2)
    values = {"nodes": PROVIDERS + 1, "requesters": 1}
    for aspect in ("latency", "bandwidth", "supply", "pricing", "demand"):
        values |= {f"{aspect}.model": "recorded", f"{aspect}.file": str(path)}
    simulation = Simulation(Scenario.of(values).world, "flow", 1)
    simulation.start(1_000)
    for number in simulation.population.providers:
        policy = simulation.population.policy(number)
        assert policy.floor_percent in {FLOOR_PERCENT, FLOOR_PERCENT - 1}
        recorded = read_trace(path).offers[number][0]
        assert policy.prices.cpu == recorded.cpu_rate
        assert policy.capacity.memory_mib == recorded.memory_mib
