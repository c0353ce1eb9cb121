"""What runs in a sandbox comes after the owner's programs. Spec: specs/sandbox.md#priority."""

# ruff: noqa: PTH123

import ctypes
import os
import platform

import pytest

from node.sandbox.runner import priority
from node.sandbox.runner.records import Fields
from tests.node.sandbox.conftest import launch_of, workload

GET_IO_PRIORITY = {"x86_64": 252, "aarch64": 31}


@pytest.mark.parametrize("weight, nice", [(100, 0), (80, 1), (10, 10), (1, 19), (0, 19)])
def test_a_step_of_niceness_is_a_quarter(weight: int, nice: int) -> None:
    assert priority.nice_of(weight) == nice


def seen_in_child(weight: str) -> tuple[int, str, int]:
    """Return niceness, the kernel's order of killing and the disk's priority after `take`."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            priority.take(Fields([("cpu_weight", weight)]))
            with open("/proc/self/oom_score_adj") as file:
                killed = file.read().strip()
            get = GET_IO_PRIORITY.get(platform.machine())
            disk = ctypes.CDLL(None).syscall(get, 1, 0) if get else priority.IDLE_CLASS
            os.write(writing, f"{os.nice(0)} {killed} {disk}".encode())
        finally:
            os._exit(0)
    os.close(writing)
    assert os.waitpid(child, 0)[1] == 0
    with open(reading) as file:
        nice, killed, disk = file.read().split()
    return int(nice), killed, int(disk)


def test_a_child_takes_its_priority() -> None:
    ours = os.nice(0)
    lowest = seen_in_child("1")
    assert lowest == (min(19, ours + 19), "1000", priority.IDLE_CLASS)
    assert seen_in_child("100")[:2] == (ours, "1000")


async def test_a_job_comes_after_the_owners_programs(room):
    line = "read stat </proc/self/stat; set -- $stat; echo ${19}; cat /proc/self/oom_score_adj"
    job = launch_of(workload("/bin/sh", "-c", line), cpu_weight=10)
    _, log, _ = await room.run(job)
    assert log == f"{min(19, os.nice(0) + 10)}\n1000\n"
