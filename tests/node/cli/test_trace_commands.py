"""The command simulate replay-trace. Spec: specs/trace.md#replay."""

import json

import pytest

from node.cli import exit_codes
from node.cli.program import run
from tests.node.cli.conftest import Ended
from tests.node.simulator.small_trace import write_trace


@pytest.fixture
def replay(tmp_path, monkeypatch, capsys):
    """Return what replays a small trace in this process."""
    monkeypatch.chdir(tmp_path)
    write_trace(tmp_path / "trace.jsonl", jobs=6)

    def told(*arguments: str) -> Ended:
        code = run(["simulate", "replay-trace", *arguments])
        said = capsys.readouterr()
        return Ended(code, said.out, said.err)

    return told


def test_a_person_sees_a_table(replay):
    told = replay("trace.jsonl")
    assert told.code == exit_codes.OK, told.err
    lines = told.out.splitlines()
    assert lines[0].endswith("ms, fitted to the first 3 jobs")
    assert lines[1:3] == ["compared    3 jobs", "done        100 % recorded, 100 % simulated"]
    begins = ["time to a", "time to s", "end to en", "rate (nan"]
    assert [line[:9] for line in lines[5:]] == begins
    assert lines[5].endswith("%")


def test_a_program_gets_the_same_and_the_tables(replay, tmp_path):
    told = replay("trace.jsonl", "--processing", "6.5", "--out", "run", "--tier=message", "--json")
    assert (told.json["processing_us"], told.json["fitted"], told.json["compared"]) == (6500, 0, 6)
    assert told.json["folder"] == "run"
    manifest = json.loads((tmp_path / "run/manifest.json").read_text())
    assert manifest["tier"] == "message"
    assert (tmp_path / "run/jobs.parquet").is_file()
    assert run(["simulate", "replay", "run", "--json"]) == 0, "its scenario makes it again"


@pytest.mark.parametrize("arguments, code, words", [
    (("absent",), exit_codes.USAGE, "absent"),
    (("trace.jsonl", "--tier=flaw"), exit_codes.REFUSED, "did you mean 'flow'"),
    (("trace.jsonl", "--set=ndes=3"), exit_codes.REFUSED, "did you mean 'nodes'"),
    (("trace.jsonl", "--processing=-1"), exit_codes.USAGE, "-1"),
    (("trace.jsonl", "--out=."), exit_codes.REFUSED, "a run is never overwritten"),
    (("other",), exit_codes.REFUSED, "line 1: it is a trace of version 2, and this program reads"),
])  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(replay, tmp_path, arguments, code, words):
    text = (tmp_path / "trace.jsonl").read_text()
    (tmp_path / "other").write_text(text.replace('"version":1', '"version":2'))
    told = replay(*arguments)
    assert (told.code, told.out) == (code, "")
    assert words in told.err
