"""Nodes that break the rules, and what the honest ones lose by it.

Spec: specs/simulation-world.md#adversaries.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from node.simulator.node import SimulatedNode
from node.simulator.scenario import Scenario
from node.simulator.simulation import Simulation
from protocol.core.core import Core
from protocol.machines import effects, events
from protocol.rules.standing import is_suspect
from protocol.values.ids import JobId, PeerId
from protocol.values.reasons import Failure

BASE: dict[str, Any] = {
    "nodes": 60, "requesters": 4, "supply.model": "equal", "demand.work": "10s",
}  # fmt: skip
BURST: dict[str, Any] = {"demand.model": "burst", "demand.jobs": 30}
HORIZON_MS = 300_000


class Outcome:
    """What happened to the jobs of a world with one kind of adversary."""

    def __init__(self, kind: str = "", base: Mapping[str, Any] = BURST, **parameters: Any) -> None:
        given = {f"adversaries.{kind}.{name}": value for name, value in parameters.items()}
        self.simulation = Simulation(Scenario.of({**BASE, **base, **given}).world, "flow", 1)
        self.kinds: Counter[type] = Counter()
        self.retries: Counter[Failure] = Counter()
        self.paid: Counter[PeerId] = Counter()
        self.simulation.network.witnesses.append(self._note)
        self.simulation.network.settled.append(self._settle)
        self.simulation.run(HORIZON_MS)

    def _note(self, node: SimulatedNode, job: JobId, event: events.JobEvent) -> None:
        self.kinds[type(event)] += 1
        if isinstance(event, events.Retrying | events.Failed):
            self.retries[event.reason] += 1

    def _settle(self, receipt: effects.Settle) -> None:
        self.paid[receipt.provider] += receipt.amount

    @property
    def answers(self) -> int:
        sent = self.simulation.network.sent
        return sent["BidCommit"] + sent["BidRefusal"]

    @property
    def suspects(self) -> int:
        """How many pairs there are of a lender and a user whose auction it saw no outcome of."""
        network, users = self.simulation.network, range(self.simulation.population.requesters)
        peers = [network.identities.peer_of(user) for user in users]
        cores = [node.core for node in network.nodes.values() if isinstance(node.core, Core)]
        standings = (core.standings.of(peer) for core in cores for peer in peers)
        return sum(is_suspect(standing, network.now_ms) for standing in standings)

    @property
    def income_of_adversaries(self) -> int:
        peer_of = self.simulation.population.identities.peer_of
        return sum(self.paid[peer_of(number)] for number in self.simulation.population.adversaries)


def test_honest_nodes_do_all_jobs_at_once() -> None:
    honest = Outcome()
    assert honest.kinds[events.Done] == 30
    assert not honest.retries


@pytest.mark.parametrize("kind", ["no-show", "silent-winner"])
def test_who_does_not_do_what_it_won_earns_nothing_and_jobs_go_elsewhere(kind: str) -> None:
    found = Outcome(kind, share_percent=30)
    assert found.kinds[events.Done] == 30
    assert found.income_of_adversaries == 0
    assert found.kinds[events.Awarded] > 30 or found.retries, "an adversary won at least once"


def test_who_lies_about_its_hardware_earns_nothing_and_jobs_go_elsewhere() -> None:
    found = Outcome("liar", share_percent=30)
    assert found.retries[Failure.SANDBOX_FAILED] > 0
    assert found.income_of_adversaries == 0
    assert found.kinds[events.Done] == 30


def test_usage_cannot_be_inflated_beyond_the_time_that_passed() -> None:
    """A requester pays for no more than the time since the start, whatever a provider reports."""
    honest, inflating = Outcome(), Outcome("inflation", share_percent=100, percent=1_000)
    assert sum(inflating.paid.values()) <= 1.1 * sum(honest.paid.values())


def test_a_ring_that_asks_its_list_prices_is_dearer() -> None:
    honest, ring = Outcome(), Outcome("ring", share_percent=100)
    assert sum(ring.paid.values()) > sum(honest.paid.values())


def test_without_the_lottery_a_crowd_answers_each_call() -> None:
    size = BURST | {"nodes": 1_500, "demand.jobs": 4}
    bounded, crowd = (Outcome("crowd", base=size, share_percent=share) for share in (0, 100))
    assert bounded.answers < 2_000
    assert crowd.answers > 4 * bounded.answers
    assert crowd.kinds[events.Done] == bounded.kinds[events.Done] == 4


def test_who_sends_no_vouchers_is_not_served_to_the_end() -> None:
    found = Outcome("non-payer", share_percent=100)
    assert found.kinds[events.Done] < 30


def test_bidders_note_who_calls_and_awards_nobody_and_others_are_served() -> None:
    base = {"demand.model": "poisson", "demand.per_minute": 6.0}
    honest, fake = (Outcome("fake-caller", base, share_percent=share) for share in (0, 50))
    assert 0.3 * honest.kinds[events.Done] < fake.kinds[events.Done] < honest.kinds[events.Done]
    assert honest.suspects == 0
    assert fake.suspects > 10
