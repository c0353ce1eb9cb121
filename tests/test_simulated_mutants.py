"""A protocol without one of its rules looks different in a simulation: its metrics see the rule.

As tests/faults/mutants.py does for safety. Spec: specs/validation.md#mutants.
"""

from collections import Counter
from dataclasses import dataclass, field, replace

import pytest

from node.simulator.simulation import FLOW, Simulation, World
from node.simulator.world.demand import Poisson
from node.simulator.world.quantities import Duration
from node.simulator.world.supply import Equal
from protocol.core.turnout import Turnout
from protocol.machines.events import Awarded, Done
from protocol.machines.provider import bidding
from protocol.machines.requester.auction import deciding
from protocol.rules import selection
from protocol.values.limits import BIDDERS_WANTED
from protocol.wire.job import QUICK
from protocol.wire.messages import LOTTERY_ALL

pytestmark = pytest.mark.slow

HORIZON_MS = 30_000
DEMAND = Poisson(work=Duration(5_000), per_minute=40.0)


@dataclass
class Metrics:
    """What a run shows of its market."""

    calls: int = 0
    sent: Counter = field(default_factory=Counter)
    awards: list[Awarded] = field(default_factory=list)
    done: int = 0

    @property
    def answers_per_call(self) -> float:
        return (self.sent["BidCommit"] + self.sent["BidRefusal"]) / self.calls

    @property
    def messages_per_job(self) -> float:
        return self.sent.total() / self.done

    @property
    def rent_percent(self) -> float:
        """Return how much more than their asks winners are paid."""
        asks = sum(award.ask for award in self.awards)
        return 100 * (sum(award.rate for award in self.awards) - asks) / asks

    @property
    def rate(self) -> float:
        return sum(award.rate for award in self.awards) / len(self.awards)


def run(nodes: int = 180, crypto: bool = False) -> Metrics:
    world = World(nodes, 2, 8, supply=Equal(spread_percent=20), demand=DEMAND, crypto=crypto)
    simulation, found = Simulation(world, FLOW, 4), Metrics()

    def see(node, job_id, event):
        found.done += isinstance(event, Done)
        found.awards += [event] if isinstance(event, Awarded) else []

    simulation.network.witnesses.append(see)
    simulation.run(HORIZON_MS)
    found.calls, found.sent = simulation.gossip.traffic.published, simulation.network.sent
    return found


@pytest.fixture(scope="module")
def whole() -> Metrics:
    """Return the metrics of the whole protocol."""
    return run()


def first_price(call, *more):
    return selection.price_of(replace(call, profile=QUICK), *more)


def test_the_whole_protocol_serves_its_jobs(whole):
    assert whole.done >= 8
    assert 0 < whole.rent_percent < 50
    assert whole.answers_per_call < 3 * BIDDERS_WANTED
    assert not whole.sent["AwardDecline"]


def test_without_a_lottery_everybody_answers(whole, monkeypatch):
    monkeypatch.setattr(Turnout, "lottery", lambda *sizes, is_first: LOTTERY_ALL)
    found = run()
    assert found.answers_per_call == pytest.approx(178, rel=0.05)
    assert found.answers_per_call > 1.8 * whole.answers_per_call
    assert found.messages_per_job > 1.5 * whole.messages_per_job


def test_without_a_second_price_winners_have_no_rent(whole, monkeypatch):
    monkeypatch.setattr(deciding, "price_of", first_price)
    monkeypatch.setattr(
        bidding, "check_award", lambda state, event, context:
        (replace(state, outcome=event.message.outcome), ()),
    )  # fmt: skip
    found = run()
    assert found.done >= 8
    assert found.rent_percent == 0 < whole.rent_percent


def test_a_requester_that_pays_less_than_the_second_price_gets_nothing(monkeypatch):
    honest = run(24, crypto=True)  # Whoever is cheated proves it with what was signed.
    monkeypatch.setattr(deciding, "price_of", first_price)
    found = run(24, crypto=True)
    assert honest.done > 0 == found.done
    assert found.sent["AwardDecline"] > 0 == honest.sent["AwardDecline"]


def test_without_floors_competition_lowers_no_price(whole, monkeypatch):
    monkeypatch.setattr(bidding, "ask_of", lambda listed, floor_percent, load: listed)
    assert run().rate > 1.2 * whole.rate
