"""Who comes first decides nothing: winner and rate are the same in every order of arrival.

Spec: specs/auction.md#selection. Invariants A6 and A8 over the real cores: bids with equal asks
among them, so that the tie-break decides too.
"""

from itertools import permutations

import pytest

from protocol.machines.events import Awarded
from protocol.wire.job import QUICK, VICKREY
from protocol.wire.messages import Message
from tests.faults.network import FaultyNetwork
from tests.simulated_network import job_spec, provider_policy
from tests.simulated_node import Node

PRICES = {"ben": 1_000, "cleo": 1_000, "dan": 2_000, "eve": 1_000}
DELAYS_MS = (5, 25, 60, 110)


def awarded(order: tuple[int, ...], profile: int) -> tuple[str, int]:
    """Return winner and rate if the providers' messages take these times."""
    network = FaultyNetwork()
    for name, price in PRICES.items():
        network.add(name, provider_policy(cpu=price, cpus=1))
    node = network.add("ann")
    network.meet()
    delay_of = dict(zip(PRICES, order, strict=True))

    def fate(sender: Node, receiver: Node, message: Message | None) -> tuple[int, ...]:
        return (delay_of.get(sender.name, 5),)

    network.fate = fate
    job_id = network.submit(node, job_spec(profile=profile))
    network.run(5_000)
    told = [event for event in node.disk.events[job_id] if isinstance(event, Awarded)]
    return network.name_of(told[0].provider), told[0].rate


@pytest.mark.parametrize("profile", [QUICK, VICKREY])
def test_the_order_of_arrival_decides_nothing(profile: int) -> None:
    found = {awarded(order, profile) for order in permutations(DELAYS_MS)}
    assert len(found) == 1
    ((winner, rate),) = found
    assert winner != "dan"
    assert rate == 1_000
