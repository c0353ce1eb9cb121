"""What a provider asks for a job, and from which price on it does not run it.

Spec: specs/auction.md#pricing. In Profile V a provider's best ask is its cost, whatever others bid
(Vickrey 1961); in Profile Q it is paid what it asks.
"""

from protocol.values.units import GIB
from protocol.wire.job import Resources
from protocol.wire.messages import Prices


def floor_rate(prices: Prices, resources: Resources) -> int:
    """Return the least rate, in nano-credits a second, at which a provider runs a job."""
    memory = -(-prices.memory_gib * resources.memory_mib // GIB)
    return prices.cpu * resources.cpus + memory + prices.gpu * resources.gpus
