"""Runner processes, and the process that forks them.

Spec: specs/sandbox.md#runner.
"""

import fcntl
import os
import signal

import pytest
import trio

from node.sandbox import runfolder, runners
from node.sandbox.driver import log_path
from node.sandbox.runner import records
from node.sandbox.runners import Runners
from protocol.values.errors import SandboxUnavailable
from tests.node.sandbox.conftest import launch_of, workload


@pytest.fixture
def embedded():
    found = Runners("bubblewrap")
    yield found
    found.end()


def is_there(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


async def until_gone(process: int) -> None:
    with trio.fail_after(10):
        while is_there(process):  # noqa: ASYNC110 - it is no child of ours.
            await trio.sleep(0.005)


async def test_a_runner_that_cannot_start_says_why(tmp_path, embedded):
    with trio.fail_after(30), pytest.raises(SandboxUnavailable, match="runner died"):
        await embedded.run(tmp_path)  # There is no launch record.
    assert "the daemon writes the launch record" in (tmp_path / records.FAULT).read_text()


async def test_one_process_forks_all_runners(room, monkeypatch):
    await room.driver.runners.make_ready()
    monkeypatch.setattr(room.driver.runners, "_spawn", None)  # No other may be started.
    folders = {}

    async def run(number: int) -> None:
        command = ("/bin/sh", "-c", f"sleep 0.3; echo {number}")
        folders[number] = await room.start(launch_of(workload(*command)))

    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(run, number)
    found = [runfolder.lock.holder(str(folder / records.LOCK)) for folder in folders.values()]
    for number, folder in folders.items():
        assert (await room.driver.wait(folder)).exit_code == 0
        assert log_path(folder).read_text() == f"{number}\n"
    for runner in found:
        await until_gone(runner)  # Nobody waits for it, and no zombie stays.


async def test_there_is_one_process(embedded, monkeypatch):
    made = []
    spawn = embedded._spawn
    monkeypatch.setattr(embedded, "_spawn", lambda: made.append(spawn()) or made[-1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(embedded.make_ready)
        nursery.start_soon(embedded.make_ready)
    await embedded.make_ready()
    assert len(made) == 1
    embedded.end()
    embedded.end()
    assert not is_there(made[0].process.pid)


async def test_containers_outlive_the_process_and_the_next_one_has_another(room):
    folder = await room.start(launch_of(workload("/bin/sh", "-c", "sleep 0.5; echo 1")))
    dead = room.driver.runners._server.process
    os.kill(dead.pid, signal.SIGKILL)
    with trio.fail_after(10):
        await trio.to_thread.run_sync(dead.wait)
    again = await room.start(launch_of(workload("/bin/echo", "2")))
    for each, text in ((folder, "1\n"), (again, "2\n")):
        assert (await room.driver.wait(each)).exit_code == 0
        assert log_path(each).read_text() == text
    assert room.driver.runners._server.process.pid != dead.pid


async def test_a_python_that_is_not_there(tmp_path, embedded, monkeypatch):
    monkeypatch.setattr(runners.sys, "executable", str(tmp_path / "none"))
    await embedded.make_ready()  # It is not needed yet.
    with pytest.raises(SandboxUnavailable, match="cannot start the sandbox's runner"):
        await embedded.run(tmp_path)


async def test_a_python_that_fails(tmp_path):
    broken = Runners("no_such_module")
    found = r"no_such_module|runner died"
    with trio.fail_after(30), pytest.raises(SandboxUnavailable, match=found):
        await broken.run(tmp_path)
    broken.end()


async def test_a_runner_that_does_not_report_is_given_up(tmp_path, embedded, monkeypatch):
    """One that finds another at work on the folder waits for its report."""
    holder = os.open(tmp_path / records.LOCK, os.O_RDWR | os.O_CREAT)
    fcntl.lockf(holder, fcntl.LOCK_EX)
    monkeypatch.setattr(runners, "START_SECONDS", 0.3)
    with trio.fail_after(10), pytest.raises(SandboxUnavailable, match=r"no container after 0\.3 s"):
        await embedded.run(tmp_path)
    (tmp_path / records.STATE).touch()  # It waits for no longer.
    os.close(holder)


async def test_preparing_an_image_starts_the_process_and_reaping_ends_it(room, tmp_path):
    class Source:
        digest = b""

        async def unpack(self):
            await trio.lowlevel.checkpoint()
            return tmp_path / "root"

    assert await room.driver.prepare(Source()) == str(tmp_path / "root")
    process = room.driver.runners._server.process.pid
    await room.driver.reap(frozenset())
    assert not is_there(process)
