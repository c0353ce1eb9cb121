"""The commands of the laboratory, as their user meets them.

Spec: specs/simulation.md#command-line.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from node.cli import exit_codes
from node.cli.program import run
from tests.node.cli.conftest import Ended, start_cli

pytestmark = pytest.mark.slow

TINY = ("--set", "nodes=40", "--set", "requesters=2", "--set", "horizon=10s")


@pytest.fixture
def simulate(tmp_path, monkeypatch, capsys):
    """Return what runs a command in this process, which has imported the laboratory."""
    monkeypatch.chdir(tmp_path)

    def told(*arguments: str) -> Ended:
        code = run(["simulate", *arguments])
        said = capsys.readouterr()
        return Ended(code, said.out, said.err)

    told("new", "world.toml")
    return told


def test_a_new_file_is_a_valid_scenario_and_nothing_is_overwritten(simulate, tmp_path):
    assert 'name = "world"' in (tmp_path / "world.toml").read_text()
    again = simulate("new", "world.toml")
    assert (again.code, again.out) == (exit_codes.REFUSED, "")
    assert again.err.startswith("error: cannot write world.toml: File exists")


def test_the_models_are_listed_for_people_and_programs(simulate):
    told = simulate("list")
    assert '[churn] model = "weibull"' in told.out
    rows = simulate("list", "--json").lines
    assert {"aspect", "model", "text", "parameters"} == set(rows[0])


def test_a_run_shows_its_summary_and_a_second_one_shows_the_same(simulate, tmp_path):
    first = simulate("run", "world.toml", *TINY)
    assert first.code == exit_codes.OK
    assert "\nserved " in first.out
    folder = first.err.strip().removeprefix("the tables are in ")
    assert (tmp_path / folder / "jobs.parquet").is_file()
    second = simulate("run", "world.toml", *TINY, "--json").json
    assert second["folder"] == folder
    assert second["digest"] in first.out


def test_a_run_is_made_again_from_its_folder(simulate, tmp_path):
    folder = simulate("run", "world.toml", *TINY, "--json").json["folder"]
    told = simulate("replay", folder, "--json")
    assert told.json["same"] is True
    manifest = tmp_path / folder / "manifest.json"
    changed = json.loads(manifest.read_text()) | {"digest": "0" * 32, "numpy": "1.0"}
    manifest.write_text(json.dumps(changed))
    told = simulate("replay", folder)
    assert told.code == exit_codes.FAILURE
    assert "the two runs differ\n  numpy 1.0 and" in told.err


def test_both_tiers_are_compared(simulate, tmp_path):
    told = simulate("compare", "world.toml", *TINY)
    assert told.out.startswith("metric")
    (digest,) = (line for line in told.out.splitlines() if line.startswith("digest"))
    assert digest.endswith("none")


def test_whole_nodes_are_compared_with_a_tier_and_repeat_nearly(simulate, tmp_path):
    small = ("--set", "nodes=6", "--set", "requesters=2", "--set", "horizon=20s")
    small += ("--set", "demand.image_mib=1", "--set", "demand.per_minute=12")
    told = simulate("compare", "world.toml", *small, "--tiers", "message,stack", "--json").json
    assert list(told) == ["message", "stack"]
    assert told["message"]["jobs"] == told["stack"]["jobs"] > 0
    assert told["message"]["transmissions"] == told["stack"]["transmissions"]
    folder = simulate("run", "world.toml", *small, "--set", "tier=stack", "--json").json["folder"]
    manifest = tmp_path / folder / "manifest.json"
    changed = json.loads(manifest.read_text()) | {"digest": "0" * 32}
    manifest.write_text(json.dumps(changed))
    told = simulate("replay", folder)
    assert told.code == exit_codes.FAILURE
    assert "its runs repeat nearly, not always" in told.err


def test_a_sweep_goes_on_where_it_was(simulate, tmp_path):
    less = (*TINY, "--set", "repetitions=1", "--set", "churn.session=1h")
    told = simulate("sweep", "world.toml", *less, "--json").json
    assert told == {"folder": "world.results", "runs": 1, "run_now": 1}
    more = (*less, "--set", "repetitions=2")
    told = simulate("sweep", "world.toml", *more, "--json").json
    assert told == {"folder": "world.results", "runs": 2, "run_now": 1}


def test_figures_are_drawn(simulate, tmp_path):
    folder = simulate("run", "world.toml", *TINY, "--json").json["folder"]
    told = simulate("plot", folder, "--format", "svg")
    drawn = [tmp_path / line for line in told.out.splitlines()]
    assert drawn
    assert all(path.read_text().startswith("<?xml") for path in drawn)
    wrong = simulate("plot", folder, "--figure", "nothing")
    assert wrong.code == exit_codes.REFUSED
    assert "nothing" in wrong.err


@pytest.mark.parametrize("arguments, code, words", [
    (("run", "world.toml", "--set", "ndes=3"), exit_codes.REFUSED, "did you mean 'nodes'?"),
    (("run", "world.toml", "--set", "nodes"), exit_codes.USAGE, "write KEY=VALUE"),
    (("run", "absent.toml"), exit_codes.USAGE, "absent.toml"),
    (("replay", "."), exit_codes.NOT_FOUND, "no manifest"),
    (("plot", "."), exit_codes.REFUSED, "there are no results"),
    (("sweep", "world.toml", "--backend", "dusk"), exit_codes.USAGE, "dusk"),
])  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(arguments, code, words, simulate):
    told = simulate(*arguments)
    assert (told.code, told.out) == (code, "")
    assert words in told.err


def test_without_the_laboratory_it_says_what_to_install(simulate, monkeypatch):
    for module in [name for name in sys.modules if name.partition(".")[0] == "numpy"]:
        monkeypatch.delitem(sys.modules, module)
    for module in [name for name in sys.modules if name.startswith("node.simulator")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "numpy", None)
    told = simulate("run", "world.toml")
    assert told.code == exit_codes.FAILURE
    assert "error: the simulator needs numpy\n  install what it needs: pip install" in told.err


def test_ctrl_c_keeps_what_was_simulated(simulate, tmp_path):
    long = ("--set", "horizon=10h", "--set", "demand.per_minute=600", "--out", "kept")
    process = start_cli("simulate", "run", "world.toml", *long)
    while not is_running(process):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == exit_codes.INTERRUPTED
    assert b"has the results up to then" in err
    (manifest,) = (tmp_path / "kept").rglob("manifest.json")
    assert json.loads(manifest.read_text())["complete"] is False


def is_running(process: subprocess.Popen) -> bool:
    """Return whether a run is under way: it has used more processor time than imports need."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) > 3 * os.sysconf("SC_CLK_TCK")
