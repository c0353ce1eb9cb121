"""A provider's ask for a job, and the lowest price at which it runs the job.

Spec: specs/auction.md#pricing. In Profile V a provider's best strategy is to ask its cost, whatever
others bid (Vickrey 1961); in Profile Q it is paid its ask.
"""

from protocol.values.units import GIB
from protocol.wire.job import Resources
from protocol.wire.messages import Prices


def floor_rate(prices: Prices, resources: Resources) -> int:
    """Return the lowest rate, in nano-credits per second, at which a provider runs a job."""
    memory = -(-prices.memory_gib * resources.memory_mib // GIB)
    return prices.cpu * resources.cpus + memory + prices.gpu * resources.gpus
