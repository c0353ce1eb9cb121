"""The runner's start: quick, alone, and outliving whoever started it.

Spec: specs/sandbox.md#runner.
"""

# ruff: noqa: ASYNC221

import os
import subprocess
import sys

import pytest

from node.sandbox.runners import RUNNER

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
        "signal",
        "subprocess",
        "dataclasses",
        "pathlib",
        "re",
        "enum",
        "socket",
    }
    assert not slow & loaded
    assert {name for name in loaded if name.startswith("node")} > {"node.sandbox.runner.supervise"}
    assert "site" not in loaded


def run(module: str, folder: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-I", "-S", "-E", str(RUNNER), module], input=folder,
                          capture_output=True, text=True, check=False)  # fmt: skip


@pytest.mark.parametrize("module", ["bubblewrap", "engine"])
def test_a_folder_that_is_not_there(module):
    done = run(module, "/no/such/folder")
    assert done.returncode == 1
    assert "/no/such/folder" in done.stderr


def test_without_a_folder_it_ends_and_starts_nothing():
    done = run("bubblewrap", "")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")


async def test_a_container_survives_who_started_it(room):
    """Another process starts it and ends; we wait for it."""
    from node.sandbox import runfolder
    from tests.node.sandbox.conftest import launch_of, workload

    folder = room.folder()
    launch = launch_of(workload("/bin/sh", "-c", "sleep 0.7; echo done"), image=str(room.rootfs))
    room.driver._note(launch, folder, await room.driver._make(launch, folder, room.extra))
    command = [sys.executable, "-I", "-S", "-E", str(RUNNER), "bubblewrap"]
    starter = (
        f"import subprocess; subprocess.run({command!r}, input={os.fsencode(folder)!r}, check=True)"
    )
    subprocess.run([sys.executable, "-c", starter], check=True)
    assert runfolder.is_alive(folder)
    assert (await room.driver.wait(folder)).exit_code == 0
    assert (folder / "log").read_text() == "done\n"
