"""The comparison of price rules: what its figures say of the rule that nodes use.

Spec: specs/decisions/0019-prices.md, specs/decisions/0026-no-shift.md.
"""

import json
import subprocess
import sys

import pytest

from scripts.auction_market import LOWEST_LISTED
from scripts.auction_rules import Cell, compare, compare_shifts

OURS, SHIFTED = LOWEST_LISTED.name, f"{LOWEST_LISTED.name}, shift"


@pytest.fixture(scope="module")
def found() -> dict[tuple[str, str, str, int], Cell]:
    cells = compare(1, 30, (1, 2))
    return {(cell.rule, cell.strategy, cell.costs, cell.bidders): cell for cell in cells}


@pytest.mark.parametrize("costs", ["lognormal", "floor"])
def test_a_lone_bidder_is_paid_its_list_price_and_not_the_users_limit(found, costs) -> None:
    before = found["V, ask posted, user's cap", "honest", costs, 1]
    now = found[OURS, "honest", costs, 1]
    assert before.over_ask > 50
    assert 1 < now.over_ask < 2


@pytest.mark.parametrize("costs", ["lognormal", "floor"])
def test_a_shill_no_longer_takes_the_whole_surplus(found, costs) -> None:
    shill = ("shill, memory", costs, 2)
    assert found["V, ask posted, user's cap", *shill].surplus < 0.01
    assert found[OURS, *shill].surplus > 0.3


def test_false_records_delay_a_sale_and_do_not_prevent_it(found) -> None:
    false = ("false records", "lognormal", 2)
    assert found["V, list, second lowest", *false].sold == 0
    assert (found[OURS, *false].sold_at_once, found[OURS, *false].sold) == (0, 1)


def test_a_second_identity_gains_by_the_shift_alone(found) -> None:
    honest, sybil = (found[OURS, act, "floor", 2] for act in ("honest", "sybil"))
    assert sybil.over_ask == honest.over_ask
    assert found[SHIFTED, "sybil", "floor", 2].over_ask > honest.over_ask


def test_the_shift_costs_more_than_it_saves() -> None:
    cells = {(cell.rule, cell.strategy): cell.over_ask for cell in compare_shifts(1, 60, (5,))
             if cell.costs == "lognormal"}  # fmt: skip
    for cap in ("shift cap 1", "shift cap 2"):
        costs = cells[cap, "sybil"] - cells["shift cap 0", "sybil"]
        saves = cells[cap, "ladder of 4"] - cells["shift cap 0", "ladder of 4"]
        assert costs > saves > 0
        assert cells[cap, "2.0% missed"] >= cells["shift cap 0", "2.0% missed"]


def test_the_cheapest_wins_and_nobody_is_paid_less_than_it_asks(found) -> None:
    sold = [cell for cell in found.values() if cell.sold]
    assert all(cell.over_ask >= 1 and cell.surplus >= 0 for cell in sold)
    assert all(cell.efficiency == 1 for cell in sold if cell.rule.startswith("V"))


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scripts.auction_rules", *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)


def test_the_same_seed_gives_the_same_figures() -> None:
    first, second, other = (
        [cell.over_ask for cell in compare(seed, 3, (2,))] for seed in (7, 7, 8)
    )
    assert first == second != other


def test_it_prints_json_and_refuses_what_it_cannot_do() -> None:
    refused = run("--markets=0")
    assert refused.returncode == 2
    assert "--markets: give 1 or more" in refused.stderr
    lines = run("--markets=1", "--json").stdout.splitlines()
    assert {"rule", "strategy", "over_ask", "sold"} <= set(json.loads(lines[0]))
