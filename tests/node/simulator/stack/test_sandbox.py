"""Containers of a stack take virtual time, pause at their budget, and leave real files.

Spec: specs/simulation.md#stack, specs/sandbox.md#drivers.
"""

from dataclasses import replace

import pytest
import trio

from node.sandbox.driver import (
    ContainerSpec,
    RestoredFile,
    checkpoint_path,
    log_path,
    outputs_path,
)
from node.simulator.containers import KILLED, SAVING_MS, TERMINATED
from node.simulator.network import START_MS
from node.simulator.stack.clock import VirtualClock, VirtualMilliseconds
from node.simulator.stack.sandbox import OUTPUT, StackSandbox
from protocol.values.errors import SandboxUnavailable
from protocol.values.ids import digest_of
from protocol.wire.job import Workload

IMAGE = digest_of(b"image")
SPEC = ContainerSpec(
    "one", Workload(IMAGE, ("work", "5000"), timeout_ms=20_000, checkpoint="state"), "i",
    budget_ms=60_000, pause_ms=3_000,
)  # fmt: skip


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.fixture
def sandbox(clock):
    return StackSandbox(VirtualMilliseconds(clock))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


async def ended(sandbox, folder):
    """Wait for a container, and return how it ended and when it did, in ms."""
    exit_ = await sandbox.wait(folder)
    return exit_.exit_code, exit_.reason, exit_.usage_ms, sandbox._clock.now_ms() - START_MS


async def test_a_job_ends_when_its_work_is_done(clock, sandbox, folder):
    assert (await sandbox.check()).ok
    assert not await sandbox.take_over(folder)
    await sandbox.start(SPEC, folder)
    assert await sandbox.take_over(folder)
    assert log_path(folder).read_bytes() == b"work 5000\n"
    assert await ended(sandbox, folder) == (0, "exited", 5_000, 5_001)
    assert (outputs_path(folder) / OUTPUT).read_text() == "5000"
    await trio.sleep(9)
    assert sandbox.usage_ms(folder) == 5_000
    await sandbox.remove(folder)
    assert not folder.exists()
    assert not sandbox.usage_ms(folder)
    assert not await sandbox.take_over(folder)


async def test_a_time_out_ends_a_job(clock, sandbox, folder):
    workload = replace(SPEC.workload, command=("work", "50000"))
    await sandbox.start(replace(SPEC, workload=workload), folder)
    assert await ended(sandbox, folder) == (KILLED, "timeout", 20_000, 20_001)


async def test_it_pauses_at_its_budget_and_goes_on_when_that_is_raised(
    clock, sandbox, folder, nursery
):
    await sandbox.start(replace(SPEC, budget_ms=2_000), folder)
    found = []

    async def wait():
        found.append(await ended(sandbox, folder))

    nursery.start_soon(wait)
    await trio.sleep(4)
    assert sandbox.usage_ms(folder) == 2_000
    await sandbox.extend(folder, 1_000)
    await trio.sleep(0.5)
    assert sandbox.usage_ms(folder) == 2_000
    await sandbox.extend(folder, 9_000)
    await trio.sleep(60)
    assert found == [(0, "exited", 5_000, 7_501)]


async def test_a_budget_that_is_not_raised_ends_it(clock, sandbox, folder):
    await sandbox.start(replace(SPEC, budget_ms=2_000), folder)
    assert await ended(sandbox, folder) == (KILLED, "budget", 2_000, 5_001)


async def test_a_job_without_a_budget_is_limited_by_its_time_out_alone(clock, sandbox, folder):
    await sandbox.start(replace(SPEC, budget_ms=0), folder)
    assert await ended(sandbox, folder) == (0, "exited", 5_000, 5_001)


async def test_a_kill_ends_it_at_once(clock, sandbox, folder):
    await sandbox.kill(folder)
    await sandbox.start(SPEC, folder)
    await trio.sleep(1)
    await sandbox.kill(folder)
    assert await ended(sandbox, folder) == (KILLED, "killed", 1_000, 1_001)


async def test_a_job_that_is_told_to_end_saves_its_state(clock, sandbox, folder):
    await sandbox.start(SPEC, folder)
    await trio.sleep(1)
    await sandbox.terminate(folder)
    used_ms = 1_000 + SAVING_MS
    assert await ended(sandbox, folder) == (TERMINATED, "exited", used_ms, used_ms + 1)
    assert (outputs_path(folder) / "state").read_text() == str(used_ms)


async def test_a_checkpoint_is_what_is_done_and_another_job_continues_from_it(
    clock, sandbox, folder, tmp_path
):
    await sandbox.start(SPEC, folder)
    await trio.sleep(2)
    mark = await sandbox.copy_checkpoint(folder, "state", b"")
    saved = checkpoint_path(folder) / "state"
    assert mark == saved.read_bytes() == b"2000"
    assert await sandbox.copy_checkpoint(folder, "state", mark) == b""
    (tmp_path / "other").mkdir()
    again = replace(SPEC, name="two", restored=(RestoredFile("state", saved),))
    await sandbox.start(again, tmp_path / "other")
    assert await ended(sandbox, tmp_path / "other") == (0, "exited", 3_000, 5_002)


async def test_what_goes_with_its_machine_is_not_started_again(clock, sandbox, folder):
    await sandbox.start(SPEC, folder)
    sandbox.lose_all()
    for act in (sandbox.take_over(folder), sandbox.wait(folder), sandbox.terminate(folder)):
        with pytest.raises(SandboxUnavailable, match="went with its machine"):
            await act


async def test_others_are_reaped(clock, sandbox, folder, tmp_path):
    (tmp_path / "other").mkdir()
    await sandbox.start(SPEC, folder)
    await sandbox.start(replace(SPEC, name="two"), tmp_path / "other")
    await sandbox.reap(frozenset({"two"}))
    assert await sandbox.take_over(tmp_path / "other")
    with pytest.raises(SandboxUnavailable):
        await sandbox.take_over(folder)
