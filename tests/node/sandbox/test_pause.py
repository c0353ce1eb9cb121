"""Containers that have used their budget: they wait for a larger one, with time standing still.

Spec: specs/sandbox.md#pause.
"""

# ruff: noqa: ASYNC110

import time
from pathlib import Path

import pytest
import trio

from node.sandbox import runfolder
from node.sandbox.driver import log_path
from node.sandbox.runner import cgroups, lock, processes, records
from node.sandbox.selftest import python_command
from tests.node.sandbox.conftest import launch_of, workload


@pytest.fixture(params=["room", "bare_room"])
def any_room(request):
    """With control groups, and without."""
    return request.getfixturevalue(request.param)


TICKS = "import time\nfor _ in range(100): print(time.monotonic(), flush=True); time.sleep(0.02)"


async def paused(room, folder):
    """Return when the container of the folder is paused."""
    name = runfolder.name_in(folder)
    with trio.fail_after(20):
        while not _is_paused(room.driver, name, folder):
            await trio.sleep(0.01)


def _is_paused(driver, name, folder):
    group = cgroups.find(f"{driver.group}/{name}", driver.cgroup_root)
    if "" in group.folders:
        return "frozen 1" in Path(group.folders[""], "cgroup.events").read_text()
    runner = lock.holder(str(folder / records.LOCK))
    monitors = Path(f"/proc/{runner}/task/{runner}/children").read_text().split()
    inits = [Path(f"/proc/{pid}/task/{pid}/children").read_text().split() for pid in monitors]
    namespaces = [processes.namespace_of(int(init[0])) for init in inits if init]
    return bool(namespaces) and processes.at_rest(namespaces[0])


async def test_a_container_beyond_its_budget_waits_and_goes_on(any_room):
    job = workload(*python_command(TICKS))
    folder = await any_room.start(launch_of(job, budget_ms=500, pause_ms=60_000))
    await paused(any_room, folder)
    since = time.monotonic()
    with trio.move_on_after(0.5):  # However long: nothing of this is usage.
        await any_room.driver.wait(folder)
    until = time.monotonic()
    await any_room.driver.extend(folder, 20_000)
    end = await any_room.driver.wait(folder)
    ticks = [float(line) for line in log_path(folder).read_text().split()]
    assert (end.reason, len(ticks)) == ("exited", 100)
    assert not [tick for tick in ticks if since < tick < until]
    assert end.usage_ms <= (ticks[-1] - ticks[0] - (until - since)) * 1000 + 5_000


async def test_a_container_that_nobody_pays_for_ends(any_room):
    job = workload(*python_command(TICKS))
    begin = time.monotonic()
    folder = await any_room.start(launch_of(job, budget_ms=300, pause_ms=300))
    end = await any_room.driver.wait(folder)
    assert end.reason == "budget"
    assert end.usage_ms <= (time.monotonic() - begin) * 1000 - 300, "waiting is no usage"


async def test_a_paused_container_can_be_killed(any_room):
    job = workload(*python_command(TICKS))
    folder = await any_room.start(launch_of(job, budget_ms=300, pause_ms=60_000))
    await paused(any_room, folder)
    await any_room.driver.kill(folder)
    assert (await any_room.driver.wait(folder)).reason == "killed"


SELF_RESUMING = """
import ctypes, signal, time
signal.signal(signal.SIGCONT, lambda *_: None)  # What is ignored is not sent again.
libc = ctypes.CDLL(None, use_errno=True)
event = (ctypes.c_int * 16)(0, 0, signal.SIGCONT, 0)
# Many timers: SIGSTOP discards a pending SIGCONT, and a timer whose signal was discarded is dead.
for number in range(1, 200):
    timer, once = ctypes.c_void_p(), (ctypes.c_long * 4)(0, 0, *divmod(number * 10**8, 10**9))
    assert libc.timer_create(1, event, ctypes.byref(timer)) == 0
    assert libc.timer_settime(timer, 0, once, None) == 0
print("ready", flush=True)
while True: time.sleep(1)
"""


async def test_a_container_that_wakes_itself_is_not_paused_but_ended(bare_room):
    job = workload(*python_command(SELF_RESUMING))
    folder = await bare_room.start(launch_of(job, pause_ms=3_600_000))
    with trio.fail_after(60):
        while "ready" not in log_path(folder).read_text():
            await trio.sleep(0.01)
        await bare_room.driver.extend(folder, 1)
        assert (await bare_room.driver.wait(folder)).reason == "budget"
