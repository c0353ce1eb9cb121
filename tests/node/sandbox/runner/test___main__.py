"""The runner's start: quick, alone, and outliving whoever started it.

Spec: specs/sandbox.md#runner.
"""

# ruff: noqa: ASYNC221

import subprocess
import sys
from pathlib import Path

import pytest
import trio

from node.sandbox import runfolder
from node.sandbox.runners import RUNNER, Runners
from protocol.values.errors import SandboxUnavailable
from tests.node.sandbox.conftest import launch_of, workload

ROOT = Path(__file__).parents[4]

LIST = """
import sys
space = {{"__file__": {main!r}, "__name__": "runner"}}
exec(compile(open({main!r}).read(), {main!r}, "exec"), space)
space["stand_alone"]()
from node.sandbox.runner import bubblewrap, supervise, lock
print(*sorted(sys.modules))
"""


def test_it_needs_little_of_the_standard_library_and_nothing_else():
    code = LIST.format(main=str(RUNNER / "__main__.py"))
    done = subprocess.run([sys.executable, "-I", "-S", "-E", "-c", code],
                          capture_output=True, text=True, check=True)  # fmt: skip
    loaded = set(done.stdout.split())
    slow = {
        "typing",
        "json",
        "subprocess",
        "dataclasses",
        "pathlib",
        "re",
    }
    assert not slow & loaded
    assert {name for name in loaded if name.startswith("node")} > {"node.sandbox.runner.supervise"}
    assert "site" not in loaded


@pytest.mark.parametrize("module", ["bubblewrap", "engine"])
async def test_a_folder_that_is_not_there(module):
    runners = Runners(module)
    with trio.fail_after(30), pytest.raises(SandboxUnavailable, match="/no/such/folder"):
        await runners.run(Path("/no/such/folder"))
    runners.end()


async def test_it_ends_with_who_started_it():
    runners = Runners("bubblewrap")
    await runners.make_ready()
    process = runners._server.process
    runners._server.control.close()
    assert await trio.to_thread.run_sync(process.wait, 10) == 0
    runners.end()


STARTER = """
import sys, trio
from pathlib import Path
from node.sandbox.runners import Runners
trio.run(Runners("bubblewrap").run, Path(sys.argv[1]))
"""


async def test_a_container_survives_who_started_it(room):
    """Another process starts it and ends; we wait for it."""
    folder = room.folder()
    launch = launch_of(workload("/bin/sh", "-c", "sleep 0.7; echo done"), image=str(room.rootfs))
    room.driver._note(launch, folder, await room.driver._make(launch, folder, room.extra))
    subprocess.run([sys.executable, "-c", STARTER, folder], check=True, cwd=ROOT)
    assert runfolder.is_alive(folder)
    assert (await room.driver.wait(folder)).exit_code == 0
    assert (folder / "log").read_text() == "done\n"
