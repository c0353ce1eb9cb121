"""The command record. Spec: specs/trace.md#recording."""

import signal
import time

import pytest

from node.cli import exit_codes
from node.trace_format import TraceEnd, decode_line
from tests.node.cli.conftest import start_cli
from tests.node.rpc.recorded import TRACE


def lines_of(path):
    return [decode_line(line) for line in path.read_bytes().splitlines()]


def test_a_trace_is_written(cli, tmp_path, daemon):
    told = cli("record")
    assert told.code == exit_codes.OK, told.err
    assert lines_of(tmp_path / "trace.jsonl") == [*TRACE, TraceEnd(100)]
    assert told.err.startswith("trace.jsonl has 0 jobs, 0 events, 0 offers, 1 round trips,")
    assert "mutirao simulate replay-trace trace.jsonl" in told.err
    assert daemon.service.asked == (None, None)


def test_since_when_and_what_for_programs(cli, tmp_path, daemon):
    told = cli("record", "--since=2h", "--out=t.jsonl", "--json").json
    assert told == {
        "file": "t.jsonl", "jobs": 0, "events": 0, "offers": 0, "round_trips": 1, "answers": 0,
    }  # fmt: skip
    since_ms, follow_ms = daemon.service.asked
    assert abs(time.time() * 1000 - 2 * 3_600_000 - since_ms) < 120_000
    assert follow_ms is None


def test_no_file_is_overwritten(cli, tmp_path):
    (tmp_path / "trace.jsonl").write_text("mine")
    told = cli("record")
    assert (told.code, told.out) == (exit_codes.REFUSED, "")
    assert told.err.startswith("error: cannot write trace.jsonl: File exists")
    assert (tmp_path / "trace.jsonl").read_text() == "mine"


@pytest.mark.parametrize("arguments, code", [
    (("--for", "soon"), exit_codes.USAGE), (("--since", "-1"), exit_codes.USAGE),
    (("--for", "200d"), exit_codes.REFUSED), (("--out", "absent/x"), exit_codes.REFUSED),
])  # fmt: skip
def test_what_makes_no_sense_leaves_no_file(cli, tmp_path, arguments, code):
    told = cli("record", *arguments)
    assert (told.code, told.out) == (code, "")
    assert not (tmp_path / "trace.jsonl").exists()


def test_after_ctrl_c_whole_lines_are_there(daemon, tmp_path):
    process = start_cli("record", "--for=1h", socket=daemon.socket, cwd=tmp_path)
    path = tmp_path / "trace.jsonl"
    while process.poll() is None and not (path.exists() and path.read_bytes().count(b"\n") == 2):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == exit_codes.OK, err
    assert lines_of(path) == list(TRACE)


def test_without_a_daemon_there_is_no_file(tmp_path):
    process = start_cli("record", socket=tmp_path / "none.sock", cwd=tmp_path)
    process.communicate()
    assert process.returncode == exit_codes.UNREACHABLE
    assert not (tmp_path / "trace.jsonl").exists()


def test_what_a_daemon_that_stops_has_told_remains(mortal_daemon, tmp_path):
    process = start_cli("record", "--for=1h", socket=mortal_daemon.socket, cwd=tmp_path)
    path = tmp_path / "trace.jsonl"
    while process.poll() is None and not (path.exists() and path.read_bytes().count(b"\n") == 2):
        time.sleep(0.02)
    mortal_daemon.stop()
    _, err = process.communicate()
    assert process.returncode == exit_codes.UNREACHABLE
    assert b"trace.jsonl has a part of it" in err
    assert lines_of(path) == list(TRACE)
