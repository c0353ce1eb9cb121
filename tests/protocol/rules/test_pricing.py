"""What a provider asks at least.

Spec: specs/auction.md#pricing.
"""

from hypothesis import given

from protocol.rules.pricing import floor_rate
from protocol.wire.job import Resources
from protocol.wire.messages import Prices
from tests.strategies import records


def test_a_slot_costs_the_sum_of_its_parts() -> None:
    prices = Prices(cpu=1_000, memory_gib=100, gpu=50_000)
    assert floor_rate(prices, Resources(cpus=2, memory_mib=2_048, gpus=3)) == 152_200


def test_memory_is_rounded_up_in_the_providers_favour() -> None:
    assert floor_rate(Prices(memory_gib=1), Resources(memory_mib=16)) == 1
    assert floor_rate(Prices(memory_gib=1), Resources(memory_mib=1_025)) == 2


@given(records(Prices), records(Resources))
def test_more_never_costs_less(prices: Prices, wanted: Resources) -> None:
    more = Resources(wanted.cpus + 1, wanted.memory_mib + 1, wanted.disk_mib, wanted.gpus + 1)
    assert 0 <= floor_rate(prices, wanted) <= floor_rate(prices, more)
