"""The market under every fault: what must hold does hold, and a broken rule would be noticed.

Spec: specs/faults.md. A failing seed names itself; `scripts/faults` prints its trace.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.invariants import ALL, AT_END, AT_STEP
from tests.faults.mutants import MUTANTS, Mutant
from tests.faults.world import run
from tests.test_specs import NAMED, anchors_of

ROOT = Path(__file__).parent.parent.parent
RUNS, CHUNK = 2_000, 100
CAUGHT_WITHIN = 1_000
"""The most frequent mutant is caught in the first run, the rarest in one of a hundred."""
SAFE_RUNS = 100
DIGESTS = """
from tests.faults.world import run
print([run(seed, trace=True).digest for seed in range(6)])
"""


@pytest.mark.parametrize("first", range(0, RUNS, CHUNK))
def test_whatever_fails_the_market_stays_whole(first: int) -> None:
    found = {seed: run(seed).violations for seed in range(first, first + CHUNK)}
    assert {seed: violations for seed, violations in found.items() if violations} == {}


def test_the_runs_are_worth_it() -> None:
    """Most jobs end well in spite of all, and something goes wrong in most runs."""
    outcomes = [run(seed) for seed in range(100)]
    jobs, done = sum(each.jobs for each in outcomes), sum(each.done for each in outcomes)
    assert done > jobs // 2
    assert done < jobs
    assert sum(each.crashes for each in outcomes) > 100


@pytest.mark.parametrize(
    "mutant", [each for each in MUTANTS if not each.safe], ids=lambda each: each.name
)
def test_a_broken_rule_is_noticed(mutant: Mutant) -> None:
    assert any(run(seed, mutant).violations for seed in range(CAUGHT_WITHIN))


@pytest.mark.parametrize(
    "mutant", [each for each in MUTANTS if each.safe], ids=lambda each: each.name
)
def test_a_rule_that_only_saves_time_may_be_broken(mutant: Mutant) -> None:
    found = {seed: run(seed, mutant).violations for seed in range(SAFE_RUNS)}
    assert {seed: violations for seed, violations in found.items() if violations} == {}


def test_a_seed_repeats_its_run_byte_for_byte() -> None:
    digests = {
        subprocess.run(
            [sys.executable, "-c", DIGESTS], cwd=ROOT, capture_output=True, text=True, check=True,
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
        ).stdout
        for hash_seed in ("1", "2")
    }  # fmt: skip
    assert len(digests) == 1


def test_each_invariant_has_one_name_and_a_check() -> None:
    assert len({each.NAME for each in ALL}) == len(ALL)
    assert set(AT_STEP) | set(AT_END) == {each.NAME for each in ALL}
    here = {path.stem for path in (Path(__file__).parent / "invariants").glob("[a-z]*.py")}
    assert here == {each.__name__.rpartition(".")[2] for each in ALL}


def test_each_invariant_names_its_section() -> None:
    for each in ALL:
        ((document, anchor),) = NAMED.findall(each.__doc__)
        assert anchor in anchors_of(ROOT / "specs" / document), each.NAME


def faults(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "scripts.faults", *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_script_reports_what_it_ran() -> None:
    done = faults("--runs", "6", "--seed", "3", "--workers", "2", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["seed"], report["runs"], report["violations"]) == (3, 6, [])
    assert 0 < report["completed"] <= report["slots"]
    assert report["seconds"] >= 0
    assert report["runs_per_second"] > 0


def test_the_script_names_the_seed_of_a_violation_and_shows_its_trace() -> None:
    done = faults("--mutant", "no-hold-ttl", "--runs", "20", "--trace")
    assert done.returncode == 1, done.stderr
    assert "repeat: scripts/faults --seed" in done.stdout
    assert "VIOLATION L9 holds end" in done.stdout


def test_the_script_says_which_mutants_were_caught() -> None:
    done = faults("--mutants", "--runs", "1", "--json")
    rows = json.loads(done.stdout)["mutants"]
    assert [row["mutant"] for row in rows] == [mutant.name for mutant in MUTANTS]
    survived = any(not row["safe"] and not row["runs_with_violations"] for row in rows)
    assert done.returncode == survived


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["--runs", "0"], "--runs and --workers are 1 or more"),
        (["--mutant", "nobody"], "invalid choice"),
        (["--mutants", "--trace"], "--mutant NAME --trace"),
    ],
)
def test_the_script_refuses_bad_arguments(arguments: list[str], says: str) -> None:
    done = faults(*arguments)
    assert done.returncode == 2
    assert says in done.stderr
