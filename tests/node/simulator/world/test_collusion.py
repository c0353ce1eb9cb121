"""Nodes of one owner that act together, and what the others lose by it.

Spec: specs/simulation-world.md#adversaries.
"""

from collections.abc import Mapping
from typing import Any

import pytest

from node.simulator.node import SimulatedNode
from node.simulator.world.collusion import Memory, SharedMachine
from protocol.machines import effects, events
from protocol.values.ids import JobId, LeaseId, PeerId
from protocol.values.units import PPM
from protocol.wire.job import Resources
from tests.node.simulator.world.test_adversaries import Outcome

STEADY = {"demand.model": "poisson", "demand.per_minute": 30.0}
ANN, BEN = PeerId("ann"), PeerId("ben")


class Prices(Outcome):
    """What was paid for a second, and how many jobs were paid."""

    def __init__(self, kind: str = "", base: Mapping[str, Any] = STEADY, **parameters: Any) -> None:
        self.rates: list[int] = []
        """Those that others than the adversaries were paid."""
        self.receipts = 0
        super().__init__(kind, base, **parameters)

    def _note(self, node: SimulatedNode, job: JobId, event: events.JobEvent) -> None:
        super()._note(node, job, event)
        if isinstance(event, events.Awarded) and self._is_other(event.provider):
            self.rates.append(event.rate)

    def _settle(self, receipt: effects.Settle) -> None:
        super()._settle(receipt)
        self.receipts += 1

    def _is_other(self, peer: PeerId) -> bool:
        population = self.simulation.population
        return population.identities.number_of(peer) not in population.adversaries

    @property
    def rate(self) -> float:
        return sum(self.rates) / len(self.rates)


@pytest.fixture(scope="module")
def honest() -> Prices:
    return Prices()


# --- Sybil --------------------------------------------------------------------------------


def test_a_machine_is_slower_the_more_it_runs() -> None:
    machine = SharedMachine()
    one, two, three = (LeaseId(bytes([number]) * 16) for number in range(3))
    assert machine.begin(one, ANN, PPM // 2) == PPM
    assert machine.begin(two, BEN, PPM) == 3 * PPM // 2
    machine.end(one)
    machine.forget(BEN)
    assert machine.begin(three, ANN, PPM) == PPM


def test_an_owner_with_many_names_earns_more_than_its_machine_does() -> None:
    busy = STEADY | {"demand.per_minute": 30.0, "demand.work": "30s", "demand.cpus": 4}
    many = Prices("sybil", busy, share_percent=50, identities=28)
    alone = Prices("sybil", busy, share_percent=50, identities=1)
    machines = len(alone.simulation.population.adversaries)
    assert many.income_of_adversaries > 3 * alone.income_of_adversaries / machines
    assert many.receipts < 0.95 * alone.receipts, "an oversold machine is slower"


# --- shills -------------------------------------------------------------------------------


def test_the_lowest_ask_of_the_newest_call_is_remembered() -> None:
    memory, one = Memory(), Resources()
    for call_id, ask in ((b"1", 9), (b"1", 7), (b"1", 8), (b"2", 10), (b"2", 11)):
        memory.note(one, call_id, ask)
    assert memory.lowest == {one: 10}


def test_a_users_own_bidder_lowers_what_others_are_paid(honest: Prices) -> None:
    """As decision 0019 says: who remembers asks takes a part of the surplus, and not all."""
    shills = Prices("shill", share_percent=100)
    assert shills.kinds[events.Done] == honest.kinds[events.Done]
    assert 0.7 * honest.rate < shills.rate < 0.99 * honest.rate


# --- eclipse ------------------------------------------------------------------------------


def test_users_without_an_honest_connection_pay_their_captors_more(honest: Prices) -> None:
    eclipsed = Prices("eclipse", share_percent=10, victims_percent=100)
    assert eclipsed.kinds[events.Done] == honest.kinds[events.Done]
    assert eclipsed.income_of_adversaries == sum(eclipsed.paid.values())
    assert sum(eclipsed.paid.values()) > 1.15 * sum(honest.paid.values())


def test_one_honest_connection_is_enough(honest: Prices) -> None:
    almost = Prices("eclipse", share_percent=10, victims_percent=100, connections_percent=98)
    assert almost.income_of_adversaries < 0.3 * sum(almost.paid.values())
    assert sum(almost.paid.values()) < 1.1 * sum(honest.paid.values())
