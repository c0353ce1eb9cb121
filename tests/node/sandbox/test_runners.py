"""Runner processes, cold and ready.

Spec: specs/sandbox.md#runner.
"""

# ruff: noqa: ASYNC220

import os
import signal
import subprocess

import pytest
import trio

from node.sandbox import runners
from node.sandbox.driver import log_path
from node.sandbox.runner import records
from node.sandbox.runners import Runners
from protocol.values.errors import SandboxUnavailable
from tests.node.sandbox.conftest import launch_of, workload


@pytest.fixture
def embedded():
    found = Runners("bubblewrap")
    yield found
    found.end_spare()


def is_there(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_runner_that_cannot_start_says_why(tmp_path, embedded):
    with trio.fail_after(30), pytest.raises(SandboxUnavailable, match="runner died"):
        await embedded.run(tmp_path)  # There is no launch record.
    assert "the daemon writes the launch record" in (tmp_path / records.FAULT).read_text()


async def test_a_spare_gets_the_next_folder_and_no_other(tmp_path, embedded):
    await embedded.make_spare()
    spare = embedded._spare.pid
    with pytest.raises(SandboxUnavailable, match="runner died"):
        await embedded.run(tmp_path)
    assert embedded._spare is None
    assert not is_there(spare)
    with pytest.raises(SandboxUnavailable, match="runner died"):
        await embedded.run(tmp_path)


async def test_a_spare_runs_containers(room):
    await room.driver.runners.make_spare()
    spawned = room.driver.runners._spawn
    room.driver.runners._spawn = None  # No other may be started.
    end, log, _ = await room.run(launch_of(workload("/bin/echo", "hello")))
    assert (end.exit_code, log) == (0, "hello\n")
    room.driver.runners._spawn = spawned
    end, _, _ = await room.run(launch_of(workload("/bin/true")))
    assert end.exit_code == 0


async def test_there_is_one_spare_at_most(embedded, monkeypatch):
    await embedded.make_spare()
    first = embedded._spare.pid
    await embedded.make_spare()
    assert embedded._spare.pid == first
    monkeypatch.setattr(runners, "SPARE_SECONDS", 0.0)
    await embedded.make_spare()
    assert embedded._spare.pid != first
    assert not is_there(first)
    monkeypatch.undo()
    embedded.end_spare()
    made = []
    spawn = embedded._spawn
    monkeypatch.setattr(embedded, "_spawn", lambda: made.append(spawn()) or made[-1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(embedded.make_spare)
        nursery.start_soon(embedded.make_spare)
    assert [is_there(each.pid) for each in made].count(True) == 1
    second = embedded._spare.pid
    embedded.end_spare()
    embedded.end_spare()
    assert not is_there(second)


async def test_a_spare_that_died_or_is_old_is_not_used(room, monkeypatch):
    await room.driver.runners.make_spare()
    dead = room.driver.runners._spare
    dead.kill()
    with trio.fail_after(10):
        await runners._wait(dead)
    folder = await room.start(launch_of(workload("/bin/echo", "1")))
    await room.driver.wait(folder)
    monkeypatch.setattr(runners, "SPARE_SECONDS", 0.0)
    await room.driver.runners.make_spare()
    old = room.driver.runners._spare.pid
    again = await room.start(launch_of(workload("/bin/echo", "2")))
    await room.driver.wait(again)
    assert [log_path(each).read_text() for each in (folder, again)] == ["1\n", "2\n"]
    assert not is_there(old)


async def test_a_python_that_is_not_there(tmp_path, embedded, monkeypatch):
    monkeypatch.setattr(runners.sys, "executable", str(tmp_path / "none"))
    await embedded.make_spare()  # It is not needed yet.
    with pytest.raises(SandboxUnavailable, match="cannot start the sandbox's runner"):
        await embedded.run(tmp_path)


async def test_a_runner_that_does_not_report_is_ended(tmp_path, embedded, monkeypatch):
    """One that finds another at work on the folder waits for its report."""
    holder = os.open(tmp_path / records.LOCK, os.O_RDWR | os.O_CREAT)
    import fcntl

    fcntl.lockf(holder, fcntl.LOCK_EX)
    monkeypatch.setattr(runners, "START_SECONDS", 0.3)
    with trio.fail_after(10), pytest.raises(SandboxUnavailable, match=r"no container after 0\.3 s"):
        await embedded.run(tmp_path)
    os.close(holder)


async def test_a_complaint_is_not_waited_for(embedded):
    """A process that a runner left behind may have its stderr for long."""
    command = ["sh", "-c", "sleep 60 & echo $!"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, bufsize=0) as runner:
        assert await runners._wait(runner) == b""
        holder = int(runner.stdout.readline())
        os.set_blocking(runner.stdout.fileno(), False)
        assert runner.stdout.read(1) is None  # No end: the holder lives.
        os.kill(holder, signal.SIGKILL)


async def test_preparing_an_image_makes_a_spare_and_reaping_ends_it(room, tmp_path):
    class Source:
        digest = b""

        async def unpack(self):
            await trio.lowlevel.checkpoint()
            return tmp_path / "root"

    assert await room.driver.prepare(Source()) == str(tmp_path / "root")
    spare = room.driver.runners._spare.pid
    await room.driver.reap(frozenset())
    assert not is_there(spare)
