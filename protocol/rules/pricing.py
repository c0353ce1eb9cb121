"""A provider's list price and ask for a job, and the cap of a job that names no price.

Spec: specs/pricing.md. The list price is public: the most that a provider asks. The ask of one
auction is private: it lies between the owner's floor and the list price, and rises with the load.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from protocol.rules.capacity import Capacity
from protocol.values.limits import ABORT_PERCENT
from protocol.values.units import GIB, PPM, RATE_MAX
from protocol.wire.job import Resources
from protocol.wire.messages import Prices

PERCENT: Final = 100
FLOOR_PERCENTS: Final = range(50, 91)
"""A floor that the owner does not set is one of these percentages of the list price."""


@dataclass(frozen=True, slots=True)
class Cap:
    """The highest rate that a call pays, and where it comes from, for the user."""

    rate: int
    why: str


def list_rate(prices: Prices, resources: Resources) -> int:
    """Return the list price of a slot, in nano-credits per second."""
    memory = -(-prices.memory_gib * resources.memory_mib // GIB)
    return prices.cpu * resources.cpus + memory + prices.gpu * resources.gpus


def floor_percent_of(secret: bytes) -> int:
    """Return the floor of an owner that sets none, from a secret of its key.

    A default that all nodes share would be known to everybody, and no ask would be private.
    """
    return FLOOR_PERCENTS[int.from_bytes(secret[:8]) % len(FLOOR_PERCENTS)]


def load_of(total: Capacity, left: Capacity) -> int:
    """Return the share in use of the scarcest resource, in millionths."""
    amounts = (
        (total.cpus, left.cpus),
        (total.memory_mib, left.memory_mib),
        (len(total.devices), len(left.devices)),
    )
    return max((PPM * (all_ - free) // all_ for all_, free in amounts if all_), default=0)


def ask_of(listed: int, floor_percent: int, load: int) -> int:
    """Return the ask of one auction: the floor when idle, the list price at full load.

    `load` is in millionths. What is taken now cannot be sold later, so it costs more when little
    is left.
    """
    assert 0 <= floor_percent <= PERCENT
    assert 0 <= load <= PPM
    floor = part_of(listed, floor_percent)
    return floor + (listed - floor) * load // PPM


def raised_ask(ask: int, listed: int) -> int:
    """Return the ask for a requester that may use what it read in an auction that it aborted.

    A list price is public: there is nothing to read.
    """
    return min(part_of(ask, PERCENT + ABORT_PERCENT), listed)


def part_of(price: int, percent: int) -> int:
    """Return a share of a price, rounded up."""
    return -(-price * percent // PERCENT)


def cap_of(
    listed: Collection[int], answered: Collection[int], above: int, percent_max: int,
    *, is_doubted: bool = False,
) -> Cap | None:  # fmt: skip
    """Return the cap of the next call of a job that names no price; None if it ends here.

    `listed`: the list prices, for this job, of the known nodes that can serve it; `answered`: those
    of them that answered an earlier call. `above`: the cap for which nobody bid, 0 at first.
    `percent_max`: the highest cap, in percent of the median list price. It never exceeds the
    highest list price: those who wait for more would be paid for waiting. `is_doubted`: a node
    could not prepare or start the job; it begins with the median, for the cheapest may all lie.
    """
    if not listed:
        return None
    # A record proves nothing: most of them may be false. A node that answers exists.
    known = sorted(answered or listed)
    quartile, median = known[len(known) // 4], known[len(known) // 2]
    highest = min(known[-1], max(median, median * percent_max // PERCENT), RATE_MAX)
    nodes = f"the {len(listed)} nodes" if len(listed) > 1 else "the only node"
    less = "a cheaper node could not start the job" if is_doubted else "nobody bid for less"
    steps = (
        (min(listed), f"the lowest list price of {nodes} known to be able to run it"),
        (quartile, "the lower quartile of the list prices: nobody bid for less"),
        (median, f"the median list price: {less}"),
        (
            highest,
            f"the highest list price up to {percent_max} % of the median: nobody bid for less",
        ),
    )
    caps = (Cap(max(1, min(rate, highest)), why) for rate, why in steps)
    left = list(caps)[2:] if is_doubted else caps
    return next((cap for cap in left if cap.rate > above), None)
