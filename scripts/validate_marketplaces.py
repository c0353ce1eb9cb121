"""Validation of marketplaces: what lenders earn that idle, and what users can do about it.

The scenarios are those of golem-des, Golem's simulator of 2019, in markets of the node's own cores.
Spec: specs/marketplaces.md.
"""

import gc
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from typing import Any, Final

from node.simulator.containers import work_of
from node.simulator.node import SimulatedNode
from node.simulator.scenario import Scenario
from node.simulator.simulation import Simulation
from node.simulator.world.idling import Uneven
from protocol.machines import effects, events, inputs
from protocol.values.ids import JobId
from scripts.validate_studies import Effort, Study, Target

HOUR_MS: Final = 3_600_000
BAGS: Final = 5
"""How many bags of jobs each user has: one an hour."""
DEFENCES: Final = ("none", "redundancy", "outlier-ban")
LINEAR, UNDERCUT = "adversaries.linear-inflation", "adversaries.undercut-budget"
SOURCE: Final = "scenarios and defences of golemfactory/golem-des; no results: ours, by reasons"
MARKET: Final[Mapping[str, Any]] = {
    "supply.model": "equal", "supply.cpus": 1, "supply.spread_percent": 0,
    "demand.model": "bags", "demand.every": "1h", "demand.work": "200s", "demand.image_mib": 1,
    "adversaries.uneven.share_percent": 100, "adversaries.uneven.percent": 10,
}  # fmt: skip
"""Lenders with one slot and equal list prices, whose usage for the same work differs by chance."""


@dataclass(frozen=True, slots=True)
class Marketplace:
    """A scenario: how many lenders are honest, and how many idle in which way."""

    name: str
    honest: int
    linear: int
    undercut: int
    users: int = 1
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def lenders(self) -> int:
        return self.honest + self.linear + self.undercut

    def values(self, *, is_honest: bool) -> dict[str, Any]:
        """Return the scenario; if it is honest, nobody idles."""
        sizes = {"nodes": self.users + self.lenders, "requesters": self.users}
        if is_honest:
            return {**MARKET, **sizes, **_without_adversaries(self.more)}
        shares = {
            f"{kind}.share_percent": 100 * count / self.lenders
            for kind, count in ((LINEAR, self.linear), (UNDERCUT, self.undercut))
        }
        return {**MARKET, **sizes, **shares, f"{LINEAR}.step": "100s", **self.more}


def _without_adversaries(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if not key.startswith("adversaries.")}


PRICE: Final = f"{UNDERCUT}.price_percent"
MARKETPLACES: Final = (
    Marketplace("two", 5, 1, 1, 1, {PRICE: 100}),
    Marketplace("minority", 10, 1, 1, 2, {PRICE: 1, "demand.spread_percent": 90}),
    Marketplace("majority", 10, 0, 11, 2, {PRICE: 100}),
    Marketplace("undercut", 5, 0, 1, 1, {PRICE: 1}),
)


class Accounts:
    """What one market did: who was paid, and who did the work."""

    def __init__(self, values: Mapping[str, Any], seed: int) -> None:
        self._simulation = Simulation(Scenario.of(values).world, "flow", seed)
        network = self._simulation.network
        self._number_of = network.identities.number_of
        kinds = self._simulation.population.adversaries.items()
        self._idle = {number for number, kind in kinds if not isinstance(kind, Uneven)}
        self._at: dict[JobId, int] = {}
        self._work: dict[JobId, int] = {}
        self.paid: Counter[bool] = Counter()
        """By whether the lender idles."""
        self.jobs: Counter[bool] = Counter()
        """Jobs that are done, copies too."""
        self.work_ms = 0
        """Of the users' jobs that are done; copies do not count."""
        network.submitted.append(self._submit)
        network.witnesses.append(self._witness)
        network.settled.append(self._settle)
        self._simulation.run(BAGS * HOUR_MS)

    @property
    def cost(self) -> float:
        """What users paid for a second of work."""
        return sum(self.paid.values()) / self.work_ms

    def _submit(self, _node: SimulatedNode, event: inputs.JobSubmitted) -> None:
        self._work[event.job_id] = work_of(event.spec.workload)

    def _settle(self, receipt: effects.Settle) -> None:
        self.paid[self._number_of(receipt.provider) in self._idle] += receipt.amount

    def _witness(self, _node: SimulatedNode, job_id: JobId, event: events.JobEvent) -> None:
        if isinstance(event, events.Awarded):
            self._at[job_id] = self._number_of(event.provider)
        elif isinstance(event, events.Done):
            self.jobs[self._at[job_id] in self._idle] += 1
            self.work_ms += self._work.get(job_id, 0)


def measure(market: Marketplace, seed: int) -> Mapping[str, float]:
    """Run a market under each defence, and without those that idle."""
    gc.disable()  # Runs make few cycles: specs/simulation.md#engine.
    try:
        usual = Accounts(market.values(is_honest=True), seed).cost
        return dict(_measured(market, seed, usual))
    finally:
        gc.enable()


def _measured(market: Marketplace, seed: int, usual: float) -> Iterator[tuple[str, float]]:
    for defence in DEFENCES:
        values = market.values(is_honest=False) | {"defences.model": defence}
        found = Accounts(values, seed)
        key = f"G {market.name} {defence}"
        yield f"{key} income", 100 * found.paid[True] / sum(found.paid.values())
        yield f"{key} overpaid", 100 * (found.cost / usual - 1)
        yield f"{key} honest", 100 * found.jobs[False] / sum(found.jobs.values())


MEASURES: Final = (
    ("income", "of users' payments, what those that idle get (%)"),
    ("overpaid", "more for the work than where nobody idles (%)"),
    ("honest", "of the jobs, what others do (%)"),
)
EXPECTED: Final[Mapping[str, tuple[tuple[str, float, float], ...]]] = {
    "two none": (("42", 34, 54), ("38", 26, 58), ("80", 75, 84)),
    "two redundancy": (("under 42", 8, 28), ("over 100", 105, 185), ("over 80", 87, 97)),
    "two outlier-ban": (("under 42", 12, 30), ("under 38", 0, 24), ("92", 87, 95)),
    "minority none": (("under 40", 0, 40), ("under 0", -35, 10), ("80", 76, 92)),
    "minority redundancy": (("less", 3, 12), ("over 85", 85, 145), ("over 80", 92, 98)),
    "minority outlier-ban": (("less", 0, 18), ("over -10", -20, 10), ("over 80", 89, 97)),
    "majority none": (("over 52", 60, 98), ("over 100", 90, 260), ("under 66", 10, 70)),
    "majority redundancy": (("over 52", 52, 88), ("over 200", 260, 500), ("more", 45, 75)),
    "majority outlier-ban": (("as none", 60, 98), ("as none", 90, 260), ("as none", 10, 70)),
    "undercut none": (("under 1", 0.2, 1), ("under 0", -30, 0), ("90", 87, 93)),
    "undercut redundancy": (("less", 0.01, 0.2), ("over 85", 85, 145), ("over 90", 96, 99.5)),
    "undercut outlier-ban": (("less", 0.1, 0.4), ("over -10", -15, 3), ("96", 94, 98)),
}
"""What follows from the scenario, and between which bounds ours must be, in the same order."""


def _study(market: Marketplace) -> Study:
    targets = tuple(
        Target(f"G {market.name} {defence} {name}", what, published, low, high, SOURCE, 1)
        for defence in DEFENCES
        for (name, what), (published, low, high) in zip(
            MEASURES, EXPECTED[f"{market.name} {defence}"], strict=True
        )
    )
    run = partial(_measure_with, market)
    return Study(f"G {market.name}", run, targets, seeds_of=attrgetter("worlds"))


def _measure_with(market: Marketplace, _effort: Effort, seed: int) -> Mapping[str, float]:
    return measure(market, seed)


STUDIES: Final = tuple(map(_study, MARKETPLACES))
