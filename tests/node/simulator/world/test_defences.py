"""What users do against lenders that idle, and that it does what it should.

Spec: specs/simulation-world.md#defences.
"""

import math
from collections import Counter
from typing import Any

import pytest

from node.simulator.engine import TICKS_PER_MS
from node.simulator.node import SimulatedNode
from node.simulator.scenario import Scenario
from node.simulator.simulation import Simulation
from node.simulator.world.defences import copy_of, outlier_limit, without
from node.simulator.world.idling import UndercutBudget
from protocol.machines import events
from protocol.rules.query import parse
from protocol.values.ids import JobId, PeerId
from protocol.values.limits import QUERY_BYTES_MAX
from tests.simulated_network import job_spec

HOUR_MS = 3_600_000
MARKET: dict[str, Any] = {
    "nodes": 7, "requesters": 1, "supply.model": "equal", "supply.cpus": 1,
    "demand.model": "bags", "demand.jobs": 6, "demand.work": "60s", "demand.every": "1h",
    "demand.image_mib": 1, "adversaries.uneven.share_percent": 100,
    "adversaries.undercut-budget.share_percent": 17,
}  # fmt: skip
"""Six lenders, of which one idles."""


class Market:
    """Where the jobs of each hour ran."""

    def __init__(self, defence: str, hours: int) -> None:
        self.simulation = Simulation(
            Scenario.of(MARKET | {"defences.model": defence}).world, "flow", 1
        )
        self.at: dict[JobId, int] = {}
        self.submitted: list[JobId] = []
        self.hours: Counter[int] = Counter()
        """How many jobs the one that idles had in each hour."""
        kinds = self.simulation.population.adversaries.items()
        (self.idle,) = (number for number, kind in kinds if isinstance(kind, UndercutBudget))
        self.simulation.network.witnesses.append(self._witness)
        self.simulation.network.submitted.append(lambda _, job: self.submitted.append(job.job_id))
        self.simulation.run(hours * HOUR_MS)

    def _witness(self, _node: SimulatedNode, job: JobId, event: events.JobEvent) -> None:
        if isinstance(event, events.Running):
            self.at[job] = self.simulation.network.identities.number_of(event.provider)
            if self.at[job] == self.idle:
                self.hours[self.simulation.engine.now // TICKS_PER_MS // HOUR_MS] += 1


def test_without_a_defence_it_gets_a_part_of_each_bag() -> None:
    market = Market("none", 6)
    assert all(market.hours[hour] for hour in range(6))
    assert len(market.at) == 36


def test_an_outlier_is_excluded_for_three_rounds_and_then_for_eight() -> None:
    market = Market("outlier-ban", 14)
    assert [hour for hour in range(14) if market.hours[hour]] == [0, 4, 13]
    assert math.ceil(math.e) == 3
    assert math.ceil(math.e**2) == 8
    assert len(market.at) == 14 * 6


def test_two_copies_run_on_different_nodes_and_who_takes_longer_is_excluded() -> None:
    market = Market("redundancy", 6)
    assert len(market.submitted) == 36
    assert len(market.at) == 72
    assert all(market.at[job] != market.at[copy_of(job)] for job in market.submitted)
    assert market.hours[0] > 0
    assert not any(market.hours[hour] for hour in range(3, 6))


@pytest.mark.parametrize(
    "sample, limit", [([1.0, 2.0, 3.0, 4.0, 5.0], 7.0), ([4.0, 4.0], 4.0), ([4.0], math.inf)]
)
def test_outliers_are_above_the_outer_fence(sample: list[float], limit: float) -> None:
    assert outlier_limit(sample) == limit


def test_a_job_excludes_nodes_by_a_query() -> None:
    spec = job_spec()
    assert without(spec, []) == spec
    one = without(spec, [PeerId("12D3KooWabcdefgh")])
    assert one.terms.where == "not peer in [abcdefgh]"
    both = without(job_spec(where="cpus>=2 or gpus>0"), [PeerId("x" * 8), PeerId("a" * 8)])
    assert both.terms.where == "(cpus>=2 or gpus>0) not peer in [aaaaaaaa,xxxxxxxx]"
    assert parse(both.terms.where, public=True)


def test_a_query_has_room_for_the_newest() -> None:
    peers = [PeerId(f"peer{number:04}") for number in range(100)]
    where = without(job_spec(), peers).terms.where
    assert len(where) <= QUERY_BYTES_MAX
    assert parse(where, public=True)
    assert "peer0099" in where
    assert "peer0001" not in where
