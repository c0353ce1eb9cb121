"""Each metric, against values that were computed by hand or in another way.

Spec: specs/simulation-results.md#metrics.
"""

import itertools
import random

import pytest

from node.simulator.metrics import (
    WINDOW,
    allocative_efficiency,
    bounded_slowdowns,
    costs_of_talk,
    gini,
    jain,
    loads,
    lookups_of,
    lorenz,
    mean,
    percentile,
    provided,
    ratios,
    summarise,
    surpluses,
    times,
)
from node.simulator.tables import METRICS, TABLES, add_row, empty
from tests.node.simulator.recorded import CALM, ROUGH, run_of


def table(name, *rows):
    made = empty(name)
    for row in rows:
        add_row(made, row)
    return made


def auction(value, work_ms, winner, cost, offered, demand=0):
    """Return a row; `offered` are pairs of cost and provider."""
    return {
        "demand": demand, "rate_max": value, "work_ms": work_ms, "winner": winner, "floor": cost,
        "slots": [provider for _, provider in offered], "costs": [cost for cost, _ in offered],
    }  # fmt: skip


def test_times_are_those_of_jobs_that_got_there():
    jobs = table(
        "jobs", {"submitted_ms": 100, "awarded_ms": 350}, {"submitted_ms": 5},
        {"submitted_ms": 7, "awarded_ms": 7},
    )  # fmt: skip
    assert times(jobs, "awarded_ms") == [250, 0]
    assert times(jobs, "running_ms") == []


def test_slowdown_is_bounded_below_and_for_short_jobs():
    done = {"outcome": "done", "submitted_ms": 0}
    jobs = table(
        "jobs",
        {**done, "ended_ms": 60_000, "usage_ms": 20_000},
        {**done, "ended_ms": 15_000, "usage_ms": 100},
        {**done, "ended_ms": 900, "usage_ms": 100},
        {"outcome": "failed", "submitted_ms": 0, "ended_ms": 9, "usage_ms": 0},
    )
    assert bounded_slowdowns(jobs) == [3.0, 1.5, 1.0]


def test_percentiles_are_linear_between_values():
    assert percentile([4, 1, 3, 2], 50) == 2.5
    assert percentile(range(101), 95) == 95
    assert percentile([], 50) is None
    assert mean([1, 2, 6]) == 3
    assert mean([]) is None


def test_ratios_need_both_and_no_zero():
    rows = [{"rate": 6, "floor": 4}, {"rate": None, "floor": 4}, {"rate": 5, "floor": 0}, {}]
    assert ratios(table("auctions", *rows), "rate", "floor") == [1.5]


def test_fairness_of_equals_and_of_one_who_has_all():
    assert jain([3, 3, 3]) == pytest.approx(1)
    assert jain([0, 0, 0, 9]) == pytest.approx(1 / 4)
    assert gini([3, 3, 3]) == pytest.approx(0)
    assert gini([0, 9, 0, 0]) == pytest.approx(3 / 4)
    assert jain([0, 0]) is None
    assert gini([0, 0]) is None
    assert gini([]) is None


def test_gini_is_half_the_relative_mean_difference():
    sample = [1, 5, 2, 9, 4]
    differences = sum(abs(one - other) for one in sample for other in sample)
    assert gini(sample) == pytest.approx(differences / (2 * len(sample) * sum(sample)))


def test_the_lorenz_curve_goes_from_nothing_to_all():
    people, wealth = lorenz([3, 1])
    assert people.tolist() == [0, 0.5, 1]
    assert wealth.tolist() == [0, 0.25, 1]


def test_only_nodes_that_lend_and_are_online_have_a_load():
    nodes = table(
        "nodes", {"lends": False, "used_ms": 0, "online_ms": 100},
        {"lends": True, "used_ms": 30, "online_ms": 60},
        {"lends": True, "used_ms": 0, "online_ms": 0},
    )  # fmt: skip
    assert loads(nodes) == [0.5]
    assert provided(nodes, "online_ms") == [60, 0]


def test_talk_is_counted_for_each_job():
    summary = {"messages": [30], "transmissions": [80], "duplicates": [60]}
    jobs = table("jobs", {"attempts": 1}, {"attempts": 3})
    assert costs_of_talk(summary, jobs) == {
        "messages_per_job": 15, "transmissions_per_job": 40, "copies_per_node": 4,
        "duplicates_per_node": 3, "retries_per_job": 1,
    }  # fmt: skip


def test_surpluses_share_the_welfare_and_failures_cost():
    done = {"outcome": "done", "rate_max": 10, "work_ms": 5_000, "floor": 4}
    failed = {"outcome": "failed", "rate_max": 10, "work_ms": 9_000, "floor": 2}
    jobs = table(
        "jobs", {**done, "usage_ms": 6_000, "paid": 36}, {**failed, "usage_ms": 1_000, "paid": 3},
        {"outcome": "open", "work_ms": 9_000, "usage_ms": 0, "paid": 0},
    )  # fmt: skip
    assert surpluses(jobs) == {
        "welfare": 50 - 24 - 2, "requester_surplus": 50 - 39, "provider_surplus": 39 - 26,
    }  # fmt: skip


# --- efficiency -----------------------------------------------------------------------------


def test_the_cheapest_award_is_efficient_and_a_dearer_one_is_less():
    offered = [(2, 7), (5, 8)]
    assert allocative_efficiency(table("auctions", auction(10, 100, 7, 2, offered))) == 1
    dear = table("auctions", auction(10, 100, 8, 5, offered))
    assert allocative_efficiency(dear) == pytest.approx(5 / 8)


def test_no_award_has_no_welfare_unless_there_was_nothing_to_gain():
    lost = auction(10, 100, None, None, [(2, 7)])
    assert allocative_efficiency(table("auctions", lost)) == 0
    hopeless = auction(10, 100, None, None, [(12, 7)])
    assert allocative_efficiency(table("auctions", hopeless)) is None
    assert allocative_efficiency(empty("auctions")) is None


def test_a_slot_is_taken_once():
    offered = [(2, 7), (5, 8)]
    rows = [auction(10, 100, 7, 2, offered), auction(10, 100, 8, 5, offered)]
    assert allocative_efficiency(table("auctions", *rows)) == 1
    two = [(2, 7), (2, 7)]
    rows[0] = auction(10, 100, 7, 2, two)
    assert allocative_efficiency(table("auctions", *rows)) == pytest.approx(13 / 16)


def test_the_job_with_more_work_should_have_the_cheaper_slot():
    offered = [(2, 7), (5, 8)]
    rows = [auction(10, 100, 7, 2, offered), auction(10, 300, 8, 5, offered)]
    assert allocative_efficiency(table("auctions", *rows)) == pytest.approx(2300 / 2900)


def searched(rows):
    """Return the welfare of the best of all assignments, one after the other."""
    known = {}
    for row in rows:
        known.setdefault(row["demand"], {}).update(zip(row["slots"], row["costs"], strict=True))
    slots = sorted({each for row in rows for each in row["slots"]})
    best = 0
    for chosen in itertools.permutations([*slots, *[None] * len(rows)], len(rows)):
        gains = (
            max(0, row["rate_max"] - known[row["demand"]][slot]) * row["work_ms"]
            for row, slot in zip(rows, chosen, strict=True)
            if slot in known[row["demand"]]
        )
        best = max(best, sum(gains))
    return best


def test_the_optimum_is_that_of_a_search():
    chance = random.Random(5)
    for _ in range(30):
        rows = []
        for _ in range(3):
            demand = chance.randrange(2)
            providers = sorted(chance.sample(range(4), 2))
            offered = [(3 + (5 * each + 2 * demand) % 7, each) for each in providers]
            cost, winner = chance.choice(offered)
            rows.append(auction(12, chance.randint(1, 9), winner, cost, offered, demand))
        won = [row["winner"] for row in rows]
        if len(set(won)) < len(won):
            continue
        realised = sum((row["rate_max"] - row["floor"]) * row["work_ms"] for row in rows)
        efficiency = allocative_efficiency(table("auctions", *rows))
        assert efficiency == pytest.approx(realised / searched(rows))


def test_windows_are_compared_one_by_one():
    offered = [(2, 7), (5, 8)]
    rows = [auction(10, 100, 7, 2, offered) for _ in range(WINDOW)]
    more = [*rows, auction(10, 100, 8, 5, offered)]
    assert allocative_efficiency(table("auctions", *rows)) == 1
    expected = (WINDOW * 8 + 5) / (WINDOW * 8 + 8)
    assert allocative_efficiency(table("auctions", *more)) == pytest.approx(expected)


# --- whole runs -----------------------------------------------------------------------------


@pytest.mark.parametrize("world", [CALM, ROUGH], ids=["calm", "rough"])
def test_the_metrics_of_a_run_are_within_their_bounds(world):
    _, tables = run_of(world)
    found = summarise(tables)
    assert list(found) == [column.name for column in METRICS]
    shares = ["served", "unserved", "unfinished", "efficiency", "utilisation", "load", "jain_load"]
    assert all(0 <= found[name] <= 1 for name in shares)
    assert found["served"] + found["unserved"] + found["unfinished"] == pytest.approx(1)
    assert 1 <= found["decentralisation"] <= found["price_over_optimum"]
    assert 1 <= found["price_ratio"] <= found["price_over_optimum"]
    assert 3 <= found["duplicates_per_node"] <= 7
    assert found["load"] <= found["utilisation"]


def test_a_run_in_which_nothing_happens_has_no_metrics():
    tables = {name: empty(name) for name in TABLES}
    tables["summary"] = {"messages": [0], "transmissions": [0], "duplicates": [0]}
    found = summarise(tables)
    welfare = {"welfare", "requester_surplus", "provider_surplus"}
    assert {name for name, value in found.items() if value is not None} == welfare


def test_lookups_that_failed_count_for_time_and_not_for_hops():
    rows = [(True, 1, 100), (True, 4, 300), (False, None, 5000)]
    lookups = table("lookups", *(
        {"found": found, "hops": hops, "took_ms": took} for found, hops, took in rows
    ))  # fmt: skip
    assert lookups_of(lookups) == {
        "lookups_found": pytest.approx(2 / 3), "lookup_hops": 2.5, "lookup_ms_p50": 300,
        "lookup_ms_p95": pytest.approx(300 + 0.9 * 4700),
    }  # fmt: skip
    assert set(lookups_of(empty("lookups")).values()) == {None}
