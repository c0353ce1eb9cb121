"""The validation reproduces what was published, and notices what is not as it should be.

Spec: specs/validation.md.
"""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from node.simulator.gossip import FlowGossip, MessageGossip
from node.simulator.kademlia import RoutingTables
from node.simulator.seeds import bits
from node.simulator.stack.network import SharedNetwork
from node.simulator.world import defences
from protocol.rules import selection
from protocol.wire.job import QUICK
from scripts import validate, validate_auctions, validate_epidemics, validate_gossip
from scripts.validate_gossip import LatencyClasses, Spread, Topology, differences, spreads
from scripts.validate_lookups import hops_per_doubling
from scripts.validate_studies import FULL, Check, Effort, Study, Target, near

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
FEW = Effort(1, 2, 60, (100, 1_000, 4_000), 1_000, 20, 1, 1, 1)
SLACK = 3
"""One seed spreads more than ten: bounds are so many times as wide here."""
TARGET = Target("T", "what", "5", 4, 6, "a book")
STUDIES = {study.name: study for study in validate.STUDIES}


def checks_of(name: str, effort: Effort = FEW) -> dict[str, Check]:
    study = replace(STUDIES[name], seeds_least=1)
    return {check.target.key: check for check in validate.validate([study], effort, 1)}


def wide(check: Check) -> Check:
    target = check.target
    more = (SLACK - 1) * (target.high - target.low) / 2
    return replace(check, target=replace(target, low=target.low - more, high=target.high + more))


LONG = {"G majority", "G minority"}
"""Studies that only the script runs: the same as others, of larger markets."""
SHORT = sorted(name for name in STUDIES if not STUDIES[name].is_live and name not in LONG)


@pytest.mark.parametrize("name", SHORT)
def test_results_are_as_published(name):
    checks = checks_of(name)
    assert set(checks) == {target.key for target in STUDIES[name].targets}
    assert [key for key, check in checks.items() if not wide(check).has_passed] == []


def test_every_target_has_its_own_key_its_source_and_bounds_around_what_was_published():
    targets = [target for study in validate.STUDIES for target in study.targets]
    assert len({target.key for target in targets}) == len(targets)
    assert all(target.source and target.low <= target.high for target in targets)
    assert FULL.seeds >= 10
    assert FULL.worlds >= 100


def test_paying_the_bid_instead_of_the_second_price_is_noticed(monkeypatch):
    def first_price(call, *more):
        return selection.price_of(replace(call, profile=QUICK), *more)

    monkeypatch.setattr(validate_auctions, "price_of", first_price)
    missed = {k for name in ("V4 Vickrey prices", "V4 truthfulness", "A2 equal jobs")
              for k, check in checks_of(name).items() if not wide(check).has_passed}  # fmt: skip
    assert {"V4 price 2", "V4 price 50", "V4 best", "V4 gain", "A2 prices"} <= missed
    assert "A2 more" not in missed


def test_a_ranking_that_ignores_the_ask_is_noticed(monkeypatch):
    def in_any_order(call, tie_break, offers):
        return tuple(sorted(offers, key=lambda offer: offer.peer))

    monkeypatch.setattr(validate_auctions, "rank", in_any_order)
    monkeypatch.setattr(
        validate_auctions, "price_of", lambda call, offers, sold, place, shift:
        selection.Price(place[0].bid.ask),
    )  # fmt: skip
    missed = {k for name in ("A1 different jobs", "A2 equal jobs")
              for k, check in checks_of(name).items() if not wide(check).has_passed}  # fmt: skip
    assert missed >= {"A1 auctions", "A1 efficiency", "A2 more"}


def test_a_thin_mesh_is_noticed(monkeypatch):
    monkeypatch.setattr(
        validate_gossip, "Topology", lambda members: Topology(members, degree=4)
    )  # fmt: skip
    assert not checks_of("V1 gossip delivery")["V1"].has_passed
    assert not checks_of("V1b gossip growth")["V1b copies"].has_passed


def test_routing_tables_that_do_not_lead_on_are_noticed(monkeypatch):
    honest = RoutingTables.closest
    monkeypatch.setattr(
        RoutingTables, "closest",
        lambda self, number, target, count, *more: honest(
            self, number, target, 40 * count, *more
        )[-count:],
    )  # fmt: skip
    checks = checks_of("V2b lookups within three hops")
    assert not any(wide(check).has_passed for check in checks.values())


def test_an_epidemic_in_half_of_the_network_is_noticed(monkeypatch):
    monkeypatch.setattr(validate_epidemics, "bits", lambda *asked: bits(*asked) % np.uint64(50_000))
    assert not any(wide(check).has_passed for check in checks_of("V5 epidemic coverage").values())


def test_flow_counts_no_duplicates_at_nodes_that_are_away():
    topology = Topology(50, 6, offline_percent=40)
    flow, message = (spreads(topology, kind, 1, 3)[0] for kind in (FlowGossip, MessageGossip))
    assert flow == message
    assert 10 < len(flow.arrivals) < 50
    assert flow.transmissions > len(flow.arrivals) + flow.duplicates


def test_differences_are_counted():
    one = [Spread({1: 5, 2: 6}, 10, 3)]
    assert differences(one, [Spread({1: 5, 2: 6}, 10, 3)]) == 0
    assert differences(one, [Spread({1: 5, 2: 7}, 10, 4)]) == 3
    assert differences(one, [Spread({1: 5}, 9, 3)]) == 2


def test_latency_classes_are_those_of_topogen():
    links = LatencyClasses().links(10, 1)
    one, other = np.divmod(np.arange(25), 5)
    assert (links.ticks(one, other + 5).reshape(5, 5) // 10).tolist() == [
        [90, 112, 94, 76, 58], [112, 72, 94, 76, 58], [94, 94, 54, 76, 58], [76, 76, 76, 40, 58],
        [58, 58, 58, 58, 40],
    ]  # fmt: skip


def test_a_defence_that_excludes_nobody_is_noticed(monkeypatch):
    monkeypatch.setattr(defences, "outlier_limit", lambda sample: float("inf"))
    monkeypatch.setattr(defences, "without", lambda spec, peers: spec)
    missed = {key for key, check in checks_of("G two").items() if not check.has_passed}
    assert {"G two redundancy income", "G two outlier-ban income"} <= missed
    assert not any("none" in key for key in missed)


def test_theory():
    assert hops_per_doubling(1) == pytest.approx(0.5)
    assert hops_per_doubling(20) == pytest.approx(0.176, abs=0.001)
    assert validate_auctions.sequential_cost(2, 3) == pytest.approx(1 / 3 + 1 / 2)
    assert validate_auctions.optimal_cost(1, 4) == pytest.approx(1 / 4)
    assert validate_auctions.optimal_cost(3, 3) == pytest.approx(1 + 1 / 4 + 1 / 9)
    assert validate_epidemics.coverage_of(2) == pytest.approx(0.7968, abs=0.0001)


def test_the_interval_is_that_of_student():
    check = Check(TARGET, (4.0, 5.0, 6.0))
    assert check.mean == 5
    assert check.half_width == pytest.approx(4.303 / 3**0.5, abs=0.001)
    assert Check(TARGET, (9.0,)).half_width == 0
    assert near(200, 10) == pytest.approx((180, 220))


def study_of(*values: float) -> Study:
    return Study("T", lambda effort, seed: {"T": values[seed % len(values)]}, (TARGET,))


@pytest.mark.parametrize("values, code", [((4.0, 6.0), 0), ((6.0, 6.1), 1), ((3.9, 4.0), 1)])
def test_the_exit_code_says_whether_all_is_as_published(monkeypatch, capsys, values, code):
    monkeypatch.setattr(validate, "STUDIES", (study_of(*values),))
    monkeypatch.setattr(sys, "argv", ["validate", "--workers", "1"])
    assert validate.main() == code
    out = capsys.readouterr().out
    assert ("MISSED T" in out) == bool(code)
    assert "T: a book" in out
    assert f"1 results, {code} not as published" in out


def test_rows_for_programs(monkeypatch, capsys):
    monkeypatch.setattr(validate, "STUDIES", (study_of(4.0, 7.0),))
    monkeypatch.setattr(sys, "argv", ["validate", "--workers", "1", "--json", "--only", "T"])
    assert validate.main() == 0
    (row,) = json.loads(capsys.readouterr().out)["checks"]
    assert (row["key"], row["mean"], row["seeds"], row["passed"]) == ("T", 5.5, 10, True)


@pytest.mark.parametrize(
    "bad, why",
    [
        ("--only=V9", "V2b lookups"),
        ("--workers=0", "1 or more"),
        ("--only=V7", "'V7' is not among the quick ones"),
    ],
)
def test_what_makes_no_sense_is_refused(monkeypatch, capsys, bad, why):
    monkeypatch.setattr(sys, "argv", ["validate", "--quick", bad])
    with pytest.raises(SystemExit) as caught:
        validate.main()
    assert caught.value.code == 2
    assert why in capsys.readouterr().err


@pytest.mark.slow
def test_the_script_runs_on_several_processors():
    command = [sys.executable, "-m", "scripts.validate", "--quick", "--json", "--workers", "2"]
    done = subprocess.run(
        [*command, "--only", "V4 rev"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["checks"]
    assert row["seeds"] == 10
    assert done.stderr == ""


def test_a_slower_line_between_whole_nodes_is_noticed(monkeypatch):
    line = SharedNetwork.line

    def slower(shared, *ends):
        found = line(shared, *ends)
        return replace(found, delay=3 * found.delay)

    monkeypatch.setattr(SharedNetwork, "line", slower)
    checks = checks_of("T whole nodes")
    assert not wide(checks["T award"]).has_passed
