"""Arrays on the command line. Spec: specs/arrays.md."""

import pytest

from node.cli.arrays import bar, is_array, require_array, show_array, show_members, summary
from node.cli.failure import CliError

ARRAY = {
    "id": "ab" * 12, "name": "", "phase": "running", "image": "cd" * 32, "command": ["x"],
    "submitted_ms": 0, "ended_ms": None, "size": 100, "done": 73, "failed": 1, "cancelled": 0,
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
