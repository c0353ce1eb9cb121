"""What was paid lately for each class of slots. Spec: specs/bids.md#prices."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.rules.paid_prices import PaidPrice, Sale, class_of_slot, paid_prices
from protocol.wire.job import Resources
from protocol.wire.messages import CapabilityRecord, GpuGroup

H200, L4 = GpuGroup("h200", 8, 143_771), GpuGroup("l4", 1, 23_034)


def record(*gpus: GpuGroup, region: str = "europe") -> CapabilityRecord:
    return CapabilityRecord(1, 1, 1, (), True, region, 8, gpus=gpus)


def test_prices_are_for_one_gpu_or_one_cpu() -> None:
    sales = [
        Sale(Resources(4), 400, 10, record()),
        Sale(Resources(2), 500, 30, record()),
        Sale(Resources(1), 120, 20, record()),
        Sale(Resources(1), 7, 5, record(region="oceania")),
        Sale(Resources(1), 9, 5, None),
        Sale(Resources(8, gpus=2), 3_001, 40, record(H200)),
    ]
    assert paid_prices(sales) == (
        PaidPrice("cpu", "", 1, 9, 9, 9, 5),
        PaidPrice("cpu", "europe", 3, 100, 120, 250, 30),
        PaidPrice("cpu", "oceania", 1, 7, 7, 7, 5),
        PaidPrice("h200", "europe", 1, 1_500, 1_500, 1_500, 40),
    )
    assert paid_prices([]) == ()


@pytest.mark.parametrize(
    "wanted,known,slot_class",
    [
        (Resources(), record(H200), "cpu"),
        (Resources(gpus=1, gpu_class="l4"), record(H200, L4), "l4"),
        (Resources(gpus=1), record(H200), "h200"),
        (Resources(gpus=1), record(H200, L4), "gpu"),
        (Resources(gpus=1), None, "gpu"),
    ],
)
def test_the_class_of_a_slot(
    wanted: Resources, known: CapabilityRecord | None, slot_class: str
) -> None:
    assert class_of_slot(wanted, known) == slot_class


@given(st.lists(st.tuples(st.integers(1, 64), st.integers(0, 10**12)), min_size=1))
def test_the_median_lies_between(slots: list[tuple[int, int]]) -> None:
    (price,) = paid_prices(Sale(Resources(cpus), rate, 0, None) for cpus, rate in slots)
    assert price.count == len(slots)
    assert price.lowest <= price.median <= price.highest
