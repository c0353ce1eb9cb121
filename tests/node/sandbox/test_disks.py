"""The disks of real containers: what is left of them, and what a full machine does to them.

Spec: specs/disk.md.
"""

# ruff: noqa: ASYNC110

import os
import subprocess
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from node.sandbox.driver import log_path, outputs_path
from node.sandbox.runner import lock
from node.sandbox.selftest import python_command
from tests.node.sandbox.conftest import close, launch_of, make_room, workload

SMALL_MIB = 300
WRITE = """
import os, time
for n in range(2_000):
    with open(f'/out/{n}', 'wb') as file:
        file.write(bytes(50_000))
    print('ready', flush=True)
    time.sleep(0.02)
"""


def devices_of(folder: Path) -> list[str]:
    """Return the loop devices whose image lies in a folder, or lay there."""
    found = []
    for place in Path("/sys/block").glob("loop*/loop/backing_file"):
        with suppress(OSError):  # It was detached meanwhile.
            found += [place.read_text()] if str(folder) in place.read_text() else []
    return found


async def says(folder: Path, word: str) -> None:
    with trio.fail_after(20):
        while word not in log_path(folder).read_text():
            await trio.sleep(0.01)


@pytest.fixture
async def image_room(room):
    if not room.driver.disks.is_hard():
        pytest.skip("needs root, mkfs.ext4 and loop devices")
    return room


async def test_no_disk_is_left_when_its_container_has_ended(image_room):
    room, launch = image_room, launch_of(workload("/bin/sh", "-c", "echo ready; sleep 0.3"))
    folder = await room.start(launch)
    await says(folder, "ready")
    assert len(devices_of(folder)) == 1
    await room.driver.wait(folder)
    await room.driver.remove(folder)
    await _gone(folder)


async def test_no_disk_is_left_of_a_runner_that_was_killed(image_room):
    room, launch = image_room, launch_of(workload("/bin/sh", "-c", "echo ready; sleep 60"))
    folder = await room.start(launch)
    await says(folder, "ready")
    os.kill(lock.holder(str(folder / "lock")), 9)
    assert (await room.driver.wait(folder)).reason == "failed"
    await _gone(folder)


async def _gone(folder: Path) -> None:
    with trio.fail_after(20):
        while devices_of(folder):
            await trio.sleep(0.01)


@pytest.fixture
def small(tmp_path):
    """A folder that is a small disk."""
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_MIB}m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, check=False).returncode != 0:
        pytest.skip("only root can mount a small disk")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.parametrize("hard", [True, False])
async def test_a_job_that_fills_the_providers_disk_ends_with_that_reason(small, hard):
    room = await make_room(small / "data")
    room.driver.disks.is_hard = lambda: hard
    job = workload(*python_command(WRITE), output_mib=100)
    job = replace(job, resources=replace(job.resources, disk_mib=200))
    folder = await room.start(launch_of(job))
    await says(folder, "ready")
    with (small / "filler").open("wb", buffering=0) as filler:  # What others write meanwhile.
        room_left = os.statvfs(small)
        for _ in range(room_left.f_bavail * room_left.f_frsize // 2**20 - 4):
            filler.write(bytes(2**20))
    end = await room.driver.wait(folder)
    assert (end.reason, end.detail) == ("failed", "the provider's disk is full")
    (small / "filler").unlink()
    end, _, folder = await room.run_shell("echo lives > /out/on")  # So does the node.
    assert (end.exit_code, (outputs_path(folder) / "on").read_text()) == (0, "lives\n")
    await close(room)
