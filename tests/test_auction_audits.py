"""What cheats gain that audits might find: the figures that decided which audits there are.

Spec: specs/decisions/0029-no-opening-audit.md.
"""

import json
import subprocess
import sys

import pytest

from scripts.auction_audits import Figure, compare

costs = pytest.mark.parametrize("costs", ["lognormal", "floor"])


@pytest.fixture(scope="module")
def found() -> dict[tuple[str, str, int], Figure]:
    figures = compare(1, 60, (5, 10))
    return {(each.cheat, each.costs, each.bidders): each for each in figures}


@costs
def test_a_long_ladder_gains_nearly_all_without_a_lie(found, costs) -> None:
    for bidders in (5, 10):
        counted = found["48 of its own, closed ones count", costs, bidders]
        denied = found["48 of its own, called open", costs, bidders]
        assert 0.7 < counted.taken < denied.taken
        assert counted.taken > found["4 of its own, called open", costs, bidders].taken


@costs
def test_another_set_gains_only_if_bids_count_in_sets_that_they_were_not_opened_to(
    found, costs
) -> None:
    for bidders in (5, 10):
        honest = found["nobody cheats", costs, bidders]
        assert found["another set", costs, bidders].over_ask >= honest.over_ask - 0.01
        assert found["another set, bids mixed", costs, bidders].over_ask < honest.over_ask - 0.02


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scripts.auction_audits", *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)


def test_it_prints_json_and_refuses_what_it_cannot_do() -> None:
    refused = run("--markets=0")
    assert refused.returncode == 2
    assert "--markets: give 1 or more" in refused.stderr
    lines = run("--markets=1", "--json").stdout.splitlines()
    assert {"cheat", "over_ask", "taken"} <= set(json.loads(lines[0]))
