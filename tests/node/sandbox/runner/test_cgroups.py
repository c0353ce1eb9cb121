"""Control groups, on file systems made of files and on this machine.

Spec: specs/sandbox.md#limits.
"""

# ruff: noqa: PTH110, PTH123, PLW1509

import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from node.sandbox.runner import cgroups


@pytest.fixture
def version_2(tmp_path, monkeypatch):
    """A made-up hierarchy: a folder made there gets its files at once."""
    (tmp_path / "cgroup.controllers").write_text("memory pids cpu")
    files = ("cgroup.procs", "cgroup.subtree_control", "cgroup.kill", "memory.max", "pids.max",
             "cpu.max", "memory.swap.max", "memory.oom.group")  # fmt: skip
    real = cgroups.os.makedirs

    def makedirs(path, exist_ok):
        real(path, exist_ok=exist_ok)
        for name in files:
            open(f"{path}/{name}", "a").close()

    monkeypatch.setattr(cgroups.os, "makedirs", makedirs)
    monkeypatch.setattr(cgroups, "bases_2", lambda root: [root])
    return tmp_path


def test_version_2_gets_all_limits(version_2):
    group = cgroups.create("mutirao/me/name", 64, 18, 2, str(version_2))
    folder = version_2 / "mutirao/me/name"
    assert group.hard == {"memory", "pids", "cpu"}
    assert (folder / "memory.max").read_text() == str(64 << 20)
    assert (folder / "memory.swap.max").read_text() == "0"
    assert (folder / "memory.oom.group").read_text() == "1"
    assert (folder / "pids.max").read_text() == "18"
    assert (folder / "cpu.max").read_text() == "200000 100000"
    assert (version_2 / "mutirao/me/cgroup.subtree_control").read_text() != ""
    assert cgroups.find("mutirao/me/name", str(version_2)).folders == {"": str(folder)}
    assert cgroups.children("mutirao/me", str(version_2)) == ["name"]


def test_all_containers_together_have_a_weight_beside_other_programs(version_2, tmp_path):
    group = cgroups.create("mutirao/me/name", 64, 18, 2, str(version_2))
    for name in ("cpu.weight", "io.weight"):
        (version_2 / "mutirao" / name).touch()
    cgroups.weigh(group, "mutirao/me/name", 10)
    assert (version_2 / "mutirao/cpu.weight").read_text() == "10"
    assert (version_2 / "mutirao/io.weight").read_text() == "10"
    version_1 = cgroups.Group({"cpu": f"{tmp_path}/cpu/mutirao/me/name"}, set())
    (tmp_path / "cpu/mutirao").mkdir(parents=True)
    (tmp_path / "cpu/mutirao/cpu.shares").touch()
    for weight, shares in ((10, "102"), (100, "1024")):
        (tmp_path / "cpu/mutirao/cpu.shares").write_text("")
        cgroups.weigh(version_1, "mutirao/me/name", weight)
        assert (tmp_path / "cpu/mutirao/cpu.shares").read_text() == shares
    cgroups.weigh(cgroups.Group({}, set()), "mutirao/me/name", 10)


def test_a_folder_that_another_node_removes_meanwhile_is_no_fault(version_2, monkeypatch):
    ours = version_2 / cgroups.OURS
    look = os.scandir

    def late(path):
        if Path(path).is_dir():
            Path(path).rmdir()
        return look(path)

    monkeypatch.setattr(cgroups.os, "scandir", late)
    ours.mkdir()
    cgroups.tidy(str(version_2))
    ours.mkdir()
    assert cgroups.children(cgroups.OURS, str(version_2)) == []


def test_version_2_is_read(tmp_path):
    (tmp_path / "memory.events").write_text("low 0\noom 2\noom_kill 3\n")
    (tmp_path / "cpu.stat").write_text("usage_usec 5000123\nuser_usec 1\n")
    (tmp_path / "memory.peak").write_text("1048577\n")
    group = cgroups.Group({"": str(tmp_path)}, set())
    assert group.out_of_memory_kills() == 3
    assert group.cpu_ms() == 5000
    assert group.memory_peak_mib() == 2


def test_without_any_hierarchy_nothing_is_claimed(tmp_path):
    group = cgroups.create("mutirao/me/name", 64, 18, 2, str(tmp_path / "none"))
    assert (group.folders, group.hard, group.members()) == ({}, set(), [])
    assert (group.cpu_ms(), group.memory_peak_mib(), group.out_of_memory_kills()) == (None, None, 0)
    group.kill()
    group.remove()
    assert not (tmp_path / "none").exists()


def test_bases_begin_with_what_was_delegated(monkeypatch):
    monkeypatch.setattr(cgroups, "_read", lambda path: "0::/system.slice/mutirao.service/node\n")
    assert cgroups.bases_2("/c") == [
        "/c/system.slice/mutirao.service",
        "/c/system.slice/mutirao.service/node",
        "/c",
    ]


def test_a_group_that_cannot_give_memory_gives_nothing(version_2, monkeypatch):
    """Or it would take no process into a group below: that of the node itself."""
    control = version_2 / "cgroup.subtree_control"
    control.touch()
    real = cgroups._try_write
    monkeypatch.setattr(cgroups, "_try_write", lambda path, value: (
        value != "+memory" and real(path, value)))  # fmt: skip
    assert cgroups.create("mutirao/me/name", 64, 18, 2, str(version_2)).hard == set()
    assert control.read_text() == ""
    assert not (version_2 / "mutirao/me/name").exists()


def test_a_node_alone_in_a_group_steps_aside(version_2, monkeypatch):
    monkeypatch.setattr(cgroups, "_own_2", lambda root: f"{root}/app.scope")
    cgroups.os.makedirs(str(version_2 / "app.scope"), exist_ok=True)
    members = version_2 / "app.scope/cgroup.procs"
    members.write_text(f"{os.getpid()}\n{os.getppid()}\n")
    assert not cgroups.step_aside(str(version_2))  # It can't move others.
    members.write_text(f"{os.getpid()}\n")
    assert cgroups.step_aside(str(version_2))
    assert (version_2 / "app.scope/node/cgroup.procs").read_text() == str(os.getpid())


def test_a_node_in_the_root_group_stays(version_2, monkeypatch):
    monkeypatch.setattr(cgroups, "_own_2", lambda root: root)
    (version_2 / "cgroup.procs").write_text(f"{os.getpid()}\n")
    assert not cgroups.step_aside(str(version_2))


def test_where_both_versions_are_the_first_is_joined_and_the_second_adopts(tmp_path):
    for path in ("memory/tasks", "unified/cgroup.procs"):
        (tmp_path / path).parent.mkdir()
        (tmp_path / path).touch()
    folders = {"memory": str(tmp_path / "memory"), "": str(tmp_path / "unified")}
    group = cgroups.Group(folders, {"memory"})
    group.join()
    assert (tmp_path / "memory/tasks").read_text() == "0"
    assert (tmp_path / "unified/cgroup.procs").read_text() == ""
    group.adopt(77)
    assert (tmp_path / "unified/cgroup.procs").read_text() == "77"


def test_version_2_alone_is_joined_and_adopts_nobody(tmp_path):
    (tmp_path / "cgroup.procs").touch()
    group = cgroups.Group({"": str(tmp_path)}, {"memory"})
    group.join()
    group.adopt(77)
    assert (tmp_path / "cgroup.procs").read_text() == "0"


def test_a_real_group_is_killed_and_removed():
    mark = secrets.token_hex(16)
    group = cgroups.create(f"mutirao/test-{os.getpid()}/{mark}", 64, 8, 1)
    if not group.folders:
        pytest.skip("control groups are not ours to make here")
    version_1 = {name: place for name, place in group.folders.items() if name in group.hard}
    limiting = version_1 or group.folders
    code = "import time; time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code], preexec_fn=group.join)
    try:
        group.adopt(process.pid)
        for folder in set(group.folders.values()):
            assert str(process.pid) in Path(folder, "cgroup.procs").read_text().split()
        assert cgroups.of_process(process.pid, mark).folders.items() >= limiting.items()
        group.kill()
        assert process.wait(10) == -9
        assert group.members() == []
    finally:
        process.kill()
        process.wait()
        group.remove()
        parent = cgroups.find(f"mutirao/test-{os.getpid()}")
        parent.remove()
    assert not any(os.path.exists(folder) for folder in parent.folders.values())


def test_empty_groups_of_dead_nodes_are_removed(tmp_path):
    (tmp_path / "pids/mutirao/dead").mkdir(parents=True)
    (tmp_path / "memory/mutirao/dead").mkdir(parents=True)
    (tmp_path / "memory/mutirao/alive/container").mkdir(parents=True)
    cgroups.tidy(str(tmp_path))
    assert not (tmp_path / "pids/mutirao").exists()
    assert not (tmp_path / "memory/mutirao/dead").exists()
    assert (tmp_path / "memory/mutirao/alive/container").exists()
    cgroups.tidy(str(tmp_path))


def test_killing_nobody_is_no_fault():
    cgroups.kill_process(2**22 - 1)


def test_a_group_that_we_are_in_is_never_killed(tmp_path):
    """The root group, say, which a process is in when it has just died."""
    with subprocess.Popen(["/bin/sleep", "60"]) as neighbour:
        (tmp_path / "cgroup.procs").write_text(f"{os.getpid()}\n{neighbour.pid}\n")
        (tmp_path / "cgroup.kill").touch()
        group = cgroups.Group({"": str(tmp_path)}, set())
        with pytest.raises(AssertionError, match="contains the runner"):
            group.kill()
        assert neighbour.poll() is None
        assert (tmp_path / "cgroup.kill").read_text() == ""
        neighbour.kill()


def test_a_process_in_somebody_elses_group_gives_none():
    assert cgroups.of_process(os.getpid(), secrets.token_hex(32)).folders == {}
    assert cgroups.of_process(2**22 - 1, secrets.token_hex(32)).folders == {}
    with pytest.raises(AssertionError):
        cgroups.of_process(os.getpid(), "")


@pytest.mark.parametrize("path", ["", "/", "docker/x", "mutirao/../x", "system.slice"])
def test_groups_of_others_are_not_found(path):
    with pytest.raises(AssertionError):
        cgroups.find(path)
