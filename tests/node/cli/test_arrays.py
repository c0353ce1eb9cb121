"""Arrays on the command line. Spec: specs/arrays.md."""

import json
import signal

import pytest

from node.cli.arrays import (
    bar,
    is_array,
    require_array,
    show_array,
    show_members,
    summary,
    watch_array,
)
from node.cli.connection import Connection
from node.cli.failure import CliError
from node.cli.progress import Silence
from node.rpc.job_views import JobView
from tests.node.cli.conftest import start_cli
from tests.node.rpc.recorded import BASE

ARRAY = {
    "id": "ab" * 12, "name": "", "phase": "running", "image": "cd" * 32, "command": ["x"],
    "submitted_ms": 0, "ended_ms": None, "size": 100, "gang": False, "done": 73,
    "failed": 1, "cancelled": 0,
    "running": 8, "waiting": 18, "cost": "0.5",
    "failures": [{"why": "exit code 3", "indices": [7]}], "max_running": 0, "queue": None,
}  # fmt: skip


def test_how_far_it_is():
    assert summary(ARRAY) == "73 of 100 done, 1 failed, 8 running, 18 waiting"
    assert bar(ARRAY) == "[##############......]"
    assert is_array(ARRAY)


def test_show(capsys):
    show_array(ARRAY)
    out = capsys.readouterr().out
    assert "failed     7: exit code 3" in out
    assert "at once" not in out
    place = {"place": 3, "jobs": 20, "why": "all are busy", "retry_ms": None, "until_ms": 0}
    show_array(ARRAY | {"max_running": 8, "queue": place})
    out = capsys.readouterr().out
    assert "at once    at most 8\n" in out
    assert "queue      3 of 20: all are busy\n" in out
    many = [{"why": "x", "indices": list(range(25))}]
    show_array(ARRAY | {"failures": many})
    assert "18, 19 and 5 more: x" in capsys.readouterr().out


def test_members(capsys):
    member = {"index": 7, "phase": "done", "exit_code": 3, "why": None}
    show_members([member], as_json=False)
    assert capsys.readouterr().out.splitlines()[1].split() == ["7", "done", "3", "-"]


def test_one_job_is_no_array():
    with pytest.raises(CliError, match="not an array"):
        require_array({"id": "ab" * 16})


# --- as processes -------------------------------------------------------------------------

RUN = ["run", "--max-price", "1", "--array", "0-2", "base", "--", "x"]


def read_until(process, wanted: bytes) -> None:
    while wanted not in (line := process.stderr.readline()):
        assert line, f"never said {wanted!r}"


def array_in(daemon) -> str:
    (array_id,) = daemon.service.arrays
    return array_id


def test_an_array_is_followed_to_its_end(daemon):
    process = start_cli(*RUN, socket=daemon.socket)
    read_until(process, b"0 of 3 done, 3 waiting; next is 3 of 20: all are busy")
    for index, code in enumerate((0, 3, 0)):
        daemon.do(daemon.service.end_member, array_in(daemon), index, code)
    read_until(process, b"1: exit code 3")
    _, err = process.communicate()
    lines = err.decode().splitlines()
    assert process.returncode == 1
    assert lines[-2].endswith(": failed: 2 of 3 done, 1 failed")
    assert "mutirao retry" in lines[-1]


def test_ctrl_c_cancels_an_array_and_waits_for_its_end(daemon):
    process = start_cli(*RUN, socket=daemon.socket)
    read_until(process, b"0 of 3 done")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130
    assert b"cancelling the array" in err
    assert b": 0 of 3 done, 3 cancelled" in err.splitlines()[-1]


def test_the_end_is_the_last_line_of_json(daemon):
    process = start_cli(RUN[0], "--json", *RUN[1:], socket=daemon.socket)
    assert b'"kind": "members"' in process.stdout.readline()
    for index in range(3):
        daemon.do(daemon.service.end_member, array_in(daemon), index)
    out, err = process.communicate()
    assert (process.returncode, err) == (0, b"")
    assert json.loads(out.splitlines()[-1])["job"]["done"] == 3


def test_the_bar_of_an_array_is_one_line_of_a_terminal(daemon, monkeypatch):
    node = Connection(daemon.socket)
    array = node.post("/jobs", {"image": "base", "command": ["x"], "array": "0-1"})
    for index in range(2):
        daemon.do(daemon.service.end_member, array["id"], index, index)
    shown = Shown()
    ended = watch_array(node, array["id"], shown, as_json=False)
    assert (ended["done"], ended["failed"]) == (1, 1)
    assert shown.lines == ["1: exit code 1", "~[####################] 1 of 2 done, 1 failed"]


class Shown(Silence):
    """Remembers what is shown; ~ marks what the next line may replace."""

    def __init__(self):
        self.lines = []

    def note(self, line):
        self.lines.append(line)

    def update(self, line):
        self.lines.append(f"~{line}")


@pytest.fixture
def left(daemon):
    """An array whose three members have ended, each with the output `file`."""
    node, service = Connection(daemon.socket), daemon.service
    array = node.post("/jobs", {"image": "base", "command": ["x"], "array": "0-2"})["id"]

    def leave():
        for member in service.arrays[array]:
            view = JobView(member.id, "", "done", BASE, ("x",), 0)
            service.jobs_by_id[member.id], service.files[member.id] = view, []
            service.leave(member.id, "file", b"of %d" % member.index)
            service.end_member(array, member.index)

    daemon.do(leave)
    return array


def test_outputs_of_all_members(cli, left, tmp_path):
    assert cli("outputs", left, "out").out.splitlines() == [f"out/{n}/file" for n in range(3)]
    assert [(tmp_path / f"out/{n}/file").read_text() for n in range(3)] == ["of 0", "of 1", "of 2"]


def test_lost_outputs_of_one_member_do_not_stop_the_others(cli, daemon, left, tmp_path):
    (output,) = daemon.service.files[daemon.service.arrays[left][1].id]
    (daemon.service.folder / output.digest).unlink()
    found = cli("outputs", left, "out")
    assert (found.code, found.out.splitlines()) == (1, ["out/0/file", "out/2/file"])
    error, hint = found.err.splitlines()
    assert error == "error: outputs are lost: 1: output 'file' is no longer stored here"
    assert "the others were written" in hint
    assert '"code": "blob-unavailable"' in cli("outputs", left, "out", "--json").err


def test_another_error_stops(cli, left, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/1").write_text("no folder")
    found = cli("outputs", left, "out")
    assert (found.code, found.out) == (1, "")
    assert "cannot write" in found.err
