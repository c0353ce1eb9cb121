"""Every transition is needed by a test of behaviour, and the script that says so can fail.

Spec: specs/overview.md#mutants.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ALL_S = 600
"""It takes about 23 s of processor time, on all cores; other tests may run at the same time."""
CODE = """
import sys
from scripts import mutants
mutants.ALONE, mutants.IN_A_NETWORK = ("tests/protocol/values/test_units.py",), tuple(sys.argv[1:])
sys.argv = ["", "requester-lease", "Fetched", "OutputsLost", "--json"]
sys.exit(mutants.main())
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
@pytest.mark.timeout(ALL_S)
def test_no_mutant_survives() -> None:
    done = run("-m", "scripts.mutants", "--json")
    assert done.returncode in {0, 1}, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert [row for row in rows if not row["killed_by"]] == []
    assert len(rows) >= 77


@pytest.mark.slow
def test_a_row_that_no_test_needs_is_a_survivor() -> None:
    done = run("-c", CODE, "tests/protocol/values/test_ids.py")
    assert done.returncode == 1, done.stderr
    (row,) = json.loads(done.stdout)["rows"]
    assert (row["state"], row["input"], row["killed_by"]) == ("Fetched", "OutputsLost", "")


@pytest.mark.slow
def test_a_test_that_fails_in_any_case_kills_nobody(tmp_path: Path) -> None:
    broken = tmp_path / "test_broken.py"
    broken.write_text("def test_it():\n    raise AssertionError\n")
    done = run("-c", CODE, str(broken))
    assert done.returncode == 2
    assert "the tests also fail with requester-lease Fetched OutputsLost" in done.stderr


def test_a_row_that_is_not_there_is_an_error() -> None:
    done = run("-m", "scripts.mutants", "bidding", "Fetched")
    assert done.returncode == 2
    assert "there is no row bidding Fetched" in done.stderr
