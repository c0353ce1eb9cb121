"""What was paid lately for each class of slots.

Spec: specs/bids.md#prices. Slots differ in size, so prices are compared for one GPU, or for one
processor of a slot without a GPU; the memory of the slot is in them.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from protocol.wire.job import Resources
from protocol.wire.messages import CapabilityRecord

CPU: Final = "cpu"
SOME_GPU: Final = "gpu"
"""The class of a GPU that nobody names."""


@dataclass(frozen=True, slots=True)
class Sale:
    """One slot that was sold. The rate is in nano-credits per second."""

    resources: Resources
    rate: int
    at_ms: int
    record: CapabilityRecord | None
    """The provider's record, if it is known."""


@dataclass(frozen=True, slots=True)
class PaidPrice:
    """The prices of one class in one region, in nano-credits per second for one GPU or CPU."""

    slot_class: str
    """`cpu`, or the class of the GPU."""
    region: str
    count: int
    lowest: int
    median: int
    highest: int
    latest_ms: int


def paid_prices(sales: Iterable[Sale]) -> tuple[PaidPrice, ...]:
    """Return the prices of each class and region, by their names."""
    known: dict[tuple[str, str], list[Sale]] = defaultdict(list)
    for sale in sales:
        region = sale.record.region if sale.record else ""
        known[class_of_slot(sale.resources, sale.record), region].append(sale)
    return tuple(_summary(*key, group) for key, group in sorted(known.items()))


def class_of_slot(wanted: Resources, record: CapabilityRecord | None) -> str:
    """Return the class of the GPU that a slot has, as far as it is known, or `cpu`."""
    if not wanted.gpus:
        return CPU
    classes = {group.gpu_class for group in record.gpus} if record else set()
    return wanted.gpu_class or (classes.pop() if len(classes) == 1 else SOME_GPU)


def _summary(slot_class: str, region: str, sales: list[Sale]) -> PaidPrice:
    prices = sorted(sale.rate // (sale.resources.gpus or sale.resources.cpus) for sale in sales)
    return PaidPrice(
        slot_class, region, len(prices), prices[0], prices[len(prices) // 2], prices[-1],
        max(sale.at_ms for sale in sales),
    )  # fmt: skip
