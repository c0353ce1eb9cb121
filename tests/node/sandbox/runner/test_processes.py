"""Processes that are found by their namespace, stopped and resumed.

Spec: specs/sandbox.md#pause.
"""

import subprocess

import pytest

from node.sandbox.runner import processes
from node.sandbox.runner.processes import at_rest, members_of, namespace_of, resume, stop


@pytest.fixture
def family(monkeypatch):
    """Two processes that count as a namespace of their own."""
    with subprocess.Popen(["/bin/sleep", "60"]) as one, subprocess.Popen(["/bin/cat"],
            stdin=subprocess.PIPE) as other:  # fmt: skip
        pids = {one.pid, other.pid}
        monkeypatch.setattr(processes, "namespace_of", lambda pid: "ours" if pid in pids else "")
        yield one, other
        for child in (one, other):
            child.kill()


def test_all_are_stopped_and_go_on(family):
    assert members_of("ours") == sorted(child.pid for child in family)
    assert not at_rest("ours")
    assert stop("ours")
    assert at_rest("ours")
    resume("ours")
    assert not at_rest("ours")


def test_only_the_children_of_the_init_are_told_to_end(family):
    import os

    processes.terminate_children("ours", family[0].pid)
    assert [child.poll() for child in family] == [None, None]
    processes.terminate_children("ours", os.getpid())
    assert [child.wait(10) for child in family] == [-15, -15]


def test_who_is_gone_is_at_rest(family):
    for child in family:
        child.kill()
        child.wait()
    assert members_of("ours") == []
    assert stop("ours")


def test_a_namespace_has_a_name(tmp_path):
    import os

    assert namespace_of(os.getpid()).startswith("pid:[")
    assert namespace_of(2**22 + 1) == ""
