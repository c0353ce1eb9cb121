"""bwrap as a container; the attacks are in test_embedded.py.

Spec: specs/sandbox.md#embedded-driver.
"""

# ruff: noqa: PTH110

import os

import pytest

from node.sandbox.runner import bubblewrap, cgroups
from node.sandbox.runner.container import StartFailed
from node.sandbox.runner.records import Fields


def test_a_program_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StartFailed, match="cannot start bwrap: No such file"):
        bubblewrap.start(Fields([("program", "/no/such/bwrap"), ("output_mib", "1")]))


def test_a_group_that_takes_no_process_stops_the_start(tmp_path):
    group = cgroups.Group({"memory": str(tmp_path), "": str(tmp_path / "gone")}, set())
    with pytest.raises(StartFailed, match="the control group accepts no process: No such file"):
        bubblewrap._adopt(group, 77)


def test_a_program_that_is_no_bwrap(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StartFailed, match="bwrap ended without a message"):
        bubblewrap.start(Fields([("program", "/bin/true"), ("output_mib", "1")]))


def test_limits_that_cannot_be_set_stop_the_start(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = f"test-{os.getpid()}"
    pairs = [("cgroup", f"mutirao/{name}/y"), ("hard", "no-such-controller"), ("memory_mib", "16"),
             ("processes", "3"), ("cpus", "1")]  # fmt: skip
    with pytest.raises(StartFailed, match="limits cannot be set"):
        bubblewrap.start(Fields(pairs))
    for controller in ("memory", "pids", "cpu", "cpuacct", "unified"):
        assert not os.path.exists(f"/sys/fs/cgroup/{controller}/mutirao/{name}/y")
