"""What a run is judged by: pure functions of its tables.

Floats are for people and plots; nothing here feeds back into a run. A metric of nothing is None.
Spec: specs/simulation-results.md#metrics.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment

from node.simulator.tables import METRICS, Readable

WINDOW: Final = 16
"""So many auctions in a row are compared with their optimal assignment."""
SHORT_MS: Final = 10_000
"""A job that runs for less does not count as slowed down by more."""
MS: Final = 1000
Table = Mapping[str, Sequence[Any]]
Number = float | int | None
Reals = NDArray[np.float64]


def summarise(tables: Readable) -> dict[str, Number]:
    """Return all metrics of a run, in the order of the specification. Takes what is recorded."""
    found: dict[str, Number] = {}
    jobs, auctions, nodes = tables["jobs"], tables["auctions"], tables["nodes"]
    for name in ("award", "start"):
        ends = "awarded_ms" if name == "award" else "running_ms"
        for percent in (50, 95, 99):
            found[f"{name}_ms_p{percent}"] = percentile(times(jobs, ends), percent)
    slowdowns = bounded_slowdowns(jobs)
    found["slowdown_mean"], found["slowdown_p95"] = mean(slowdowns), percentile(slowdowns, 95)
    for name, outcome in (("served", "done"), ("unserved", "failed"), ("unfinished", "open")):
        found[name] = ratio(jobs["outcome"].count(outcome), len(jobs["outcome"]))
    found["price_ratio"] = mean(ratios(auctions, "rate", "floor"))
    found["price_over_optimum"] = mean(ratios(auctions, "rate", "lowest"))
    found["decentralisation"] = mean(ratios(auctions, "floor", "lowest"))
    found["efficiency"] = allocative_efficiency(auctions)
    online_ms = sum(provided(nodes, "online_ms"))
    found["utilisation"] = ratio(sum(provided(nodes, "busy_ms")), online_ms)
    found["load"] = ratio(sum(provided(nodes, "used_ms")), online_ms)
    earned = provided(nodes, "earned")
    found["jain_load"], found["jain_earned"] = jain(loads(nodes)), jain(earned)
    found["gini_earned"] = gini(earned)
    found |= costs_of_talk(tables["summary"], jobs)
    found |= lookups_of(tables["lookups"])
    found |= surpluses(jobs)
    assert list(found) == [column.name for column in METRICS]
    return found


# --- samples --------------------------------------------------------------------------------


def times(jobs: Table, until: str) -> list[int]:
    """Return how long each job took from its submission to an instant, in ms, if it got there."""
    pairs = zip(jobs["submitted_ms"], jobs[until], strict=True)
    return [end - start for start, end in pairs if end is not None]


def bounded_slowdowns(jobs: Table) -> list[float]:
    """Return max(1, response time / max(run time, 10 s)) of each job that is done.

    Feitelson and Rudolph 1998, Metrics and Benchmarking for Parallel Job Scheduling. The response
    time is from submission to end, the run time is the paid usage.
    """
    rows = zip(
        jobs["outcome"], jobs["submitted_ms"], jobs["ended_ms"], jobs["usage_ms"], strict=True
    )
    return [
        max(1.0, (end - start) / max(usage, SHORT_MS))
        for outcome, start, end, usage in rows
        if outcome == "done"
    ]


def ratios(table: Table, above: str, below: str) -> list[float]:
    """Return one column over another, of rows that have both and do not divide by 0."""
    pairs = zip(table[above], table[below], strict=True)
    return [one / other for one, other in pairs if one is not None and other]


def provided(nodes: Table, name: str) -> list[int]:
    """Return a column of the nodes that lend."""
    return [value for value, lends in zip(nodes[name], nodes["lends"], strict=True) if lends]


def loads(nodes: Table) -> list[float]:
    """Return which share of each provider was used while it was online; never online: none."""
    pairs = zip(provided(nodes, "used_ms"), provided(nodes, "online_ms"), strict=True)
    return [used / online for used, online in pairs if online]


# --- statistics -----------------------------------------------------------------------------


def mean(sample: ArrayLike) -> float | None:
    """Return the arithmetic mean."""
    values = np.asarray(sample, np.float64)
    return float(values.mean()) if values.size else None


def percentile(sample: ArrayLike, percent: float) -> float | None:
    """Return a percentile, linear between two values (Hyndman and Fan 1996, type 7)."""
    values = np.asarray(sample, np.float64)
    return float(np.percentile(values, percent)) if values.size else None


def ratio(one: float, other: float) -> float | None:
    """Return a quotient; None of 0."""
    return one / other if other else None


def jain(sample: ArrayLike) -> float | None:
    """Return Jain's index of fairness: (Σx)² / (n Σx²), from 1/n to 1 if all have the same.

    Jain, Chiu and Hawe 1984, DEC-TR-301. None if nobody has anything.
    """
    values = np.asarray(sample, np.float64)
    return ratio(float(values.sum()) ** 2, float(values.size * (values**2).sum()))


def gini(sample: ArrayLike) -> float | None:
    """Return the Gini coefficient: 0 if all have the same, (n - 1)/n if one has all.

    It is twice the area between the Lorenz curve and the diagonal (Gini 1912).
    """
    people, wealth = lorenz(sample)
    if not wealth.size:
        return None
    return float(1 - ((wealth[1:] + wealth[:-1]) * np.diff(people)).sum())


def lorenz(sample: ArrayLike) -> tuple[Reals, Reals]:
    """Return the Lorenz curve (1905): which share of all the poorest share of the sample has.

    Both are empty if nobody has anything.
    """
    values = np.sort(np.asarray(sample, np.float64))
    if not values.sum():
        return np.empty(0), np.empty(0)
    wealth = np.concatenate([[0.0], np.cumsum(values) / values.sum()])
    return np.linspace(0, 1, len(wealth)), wealth


# --- communication and welfare --------------------------------------------------------------


def costs_of_talk(summary: Table, jobs: Table) -> dict[str, Number]:
    """Return messages and copies per job, copies per node, and attempts after the first."""
    count = len(jobs["attempts"])
    sent, repeated = summary["transmissions"][0], summary["duplicates"][0]
    copies = ratio(sent, sent - repeated)
    return {
        "messages_per_job": ratio(summary["messages"][0], count),
        "transmissions_per_job": ratio(sent, count),
        "copies_per_node": copies,
        "duplicates_per_node": None if copies is None else copies - 1,
        "retries_per_job": ratio(sum(jobs["attempts"]) - count, count),
    }


def surpluses(jobs: Table) -> dict[str, Number]:
    """Return welfare, and what of it requesters and providers have, in nano-credits.

    The value of a job that is done is its highest rate times its work. Cost is the provider's
    floor times the usage that was paid, also of attempts that failed.
    """
    value = cost = 0
    rows = zip(*(jobs[name] for name in ("outcome", "rate_max", "work_ms")), strict=True)
    for outcome, rate_max, work_ms in rows:
        value += (rate_max or 0) * work_ms if outcome == "done" else 0
    for floor, usage_ms in zip(jobs["floor"], jobs["usage_ms"], strict=True):
        cost += (floor or 0) * usage_ms
    paid = sum(jobs["paid"])
    return {
        "welfare": (value - cost) / MS,
        "requester_surplus": value / MS - paid,
        "provider_surplus": paid - cost / MS,
    }


def lookups_of(lookups: Table) -> dict[str, Number]:
    """Return how the lookups of a run went."""
    took = lookups["took_ms"]
    return {
        "lookups_found": ratio(sum(lookups["found"]), len(took)),
        "lookup_hops": mean([hops for hops in lookups["hops"] if hops]),
        "lookup_ms_p50": percentile(took, 50),
        "lookup_ms_p95": percentile(took, 95),
    }


# --- efficiency -----------------------------------------------------------------------------


class Trade(NamedTuple):
    """One auction: what it could have taken, and what it took."""

    demand: int
    value: int
    """Rate, in nano-credits per second."""
    work_ms: int
    winner: int | None
    cost: int | None
    offered: Mapping[int, int]
    """How many free slots each provider had, of the cheapest."""
    costs: Mapping[int, int]
    """Their floors."""

    def gain(self, cost: int) -> int:
        """Return the welfare of a trade at this cost, rate times work; 0: none is made."""
        return max(0, self.value - cost) * self.work_ms


def allocative_efficiency(auctions: Table) -> float | None:
    """Return realised over optimal welfare of auctions, from 0 to 1.

    Gode and Sunder 1993, Allocative Efficiency of Markets with Zero-Intelligence Traders. The
    optimum is a maximum-weight matching of jobs and slots (Crouse 2016), for each WINDOW of
    auctions in a row. An auction without an award has a welfare of 0.
    """
    realised = optimal = 0
    for window in _windows(_trades(auctions)):
        realised += sum(
            (trade.value - trade.cost) * trade.work_ms for trade in window if trade.cost is not None
        )
        optimal += optimal_gain(window)
    return ratio(realised, optimal)


def optimal_gain(window: Sequence[Trade]) -> int:
    """Return the highest sum of gains if each trade has a slot of its own, or none."""
    won = Counter(trade.winner for trade in window if trade.winner is not None)
    costs: dict[int, dict[int, int]] = {}
    slots: Counter[int] = Counter(won)
    for trade in window:
        known = costs.setdefault(trade.demand, {})
        known.update(trade.costs)
        if trade.winner is not None and trade.cost is not None:
            known[trade.winner] = trade.cost
        for provider, count in trade.offered.items():
            slots[provider] = max(slots[provider], count)
    columns = [provider for provider in sorted(slots) for _ in range(slots[provider])]
    gains = np.zeros((len(window), len(columns)))
    for row, trade in enumerate(window):
        known = costs[trade.demand]
        gains[row] = [
            trade.gain(known[provider]) if provider in known else 0 for provider in columns
        ]
    rows, chosen = linear_sum_assignment(gains, maximize=True)
    return int(gains[rows, chosen].sum())


def _trades(auctions: Table) -> Iterator[Trade]:
    names = ("demand", "rate_max", "work_ms", "winner", "floor", "slots", "costs")
    for row in zip(*(auctions[name] for name in names), strict=True):
        demand, value, work_ms, winner, cost, slots, costs = row
        costs_of = dict(zip(slots, costs, strict=True))
        yield Trade(demand, value or 0, work_ms, winner, cost, Counter(slots), costs_of)


def _windows(trades: Iterable[Trade]) -> Iterator[list[Trade]]:
    window: list[Trade] = []
    for trade in trades:
        window.append(trade)
        if len(window) == WINDOW:
            yield window
            window = []
    if window:
        yield window
