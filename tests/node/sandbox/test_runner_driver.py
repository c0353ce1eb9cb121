"""What all drivers do alike, seen with one whose containers nobody starts.

Spec: specs/sandbox.md#drivers.
"""

import pytest

from node.sandbox import runfolder
from node.sandbox.driver import Probe
from node.sandbox.runner import records
from node.sandbox.runner_driver import RunnerDriver, let_read
from protocol.values.errors import SandboxUnavailable
from tests.node.sandbox.conftest import launch_of, workload

LAUNCH = launch_of(workload("run", "-x"), budget_ms=500)


class Recorded(RunnerDriver):
    """Writes down what it is asked for."""

    name, runner = "recorded", "bubblewrap"

    def __init__(self, runs):
        super().__init__(runs)
        self.asked, self.refuses = [], False
        self.runners.run = self.run

    async def run(self, folder):
        self.asked.append("run")
        if self.refuses:
            raise SandboxUnavailable("no namespaces")

    async def require(self):
        self.asked.append("require")

    async def check(self):
        return Probe(ok=True, why="")

    async def check_egress(self):
        return ""

    def soft_limits(self):
        return frozenset()

    async def selftest_image(self, rootfs):
        return str(rootfs)

    async def forget_selftest_image(self):
        self.asked.append("forget")

    async def _take_image(self, image):
        return "an image"

    async def _make(self, spec, folder, extra):
        self.asked.append("make")
        return [("program", "x")]

    async def _discard(self, folder):
        self.asked.append("discard")

    async def _reap(self, names):
        self.asked.append("reap")


async def test_a_start_makes_the_container_writes_it_down_and_has_it_run(tmp_path):
    driver = Recorded(tmp_path)
    await driver.start(LAUNCH, tmp_path)
    assert driver.asked == ["make", "run"]
    launch = records.read(str(tmp_path / records.LAUNCH))
    assert (launch.one("driver"), launch.one("name")) == ("recorded", LAUNCH.name)
    assert (launch.every("command"), launch.one("program")) == (["run", "-x"], "x")
    assert (launch.number("timeout_ms"), launch.number("memory_mib")) == (20_000, 64)
    assert records.read(str(tmp_path / records.BUDGET)).number("ms") == 500


async def test_a_start_that_fails_leaves_nothing_half_made(tmp_path):
    driver = Recorded(tmp_path)
    driver.refuses = True
    with pytest.raises(SandboxUnavailable, match="no namespaces"):
        await driver.start(LAUNCH, tmp_path)
    assert driver.asked == ["make", "run", "discard"]


async def test_nothing_is_made_of_what_no_sandbox_may_run(tmp_path):
    driver = Recorded(tmp_path)
    with pytest.raises(SandboxUnavailable, match="no command"):
        await driver.start(launch_of(workload()), tmp_path)
    assert driver.asked == []


async def test_what_ran_is_taken_over_and_never_made_again(tmp_path):
    driver = Recorded(tmp_path)
    assert not await driver.take_over(tmp_path)
    runfolder.write_record(tmp_path, records.LAUNCH, [("name", LAUNCH.name)])
    runfolder.write_record(tmp_path, records.RESULT, [("usage_ms", "40")])
    assert await driver.take_over(tmp_path)
    await driver.start(LAUNCH, tmp_path)
    assert driver.asked == ["run", "run"]
    assert driver.usage_ms(tmp_path) == 40


async def test_what_was_lost_does_not_run_again(tmp_path):
    driver = Recorded(tmp_path)
    runfolder.write_record(tmp_path, records.LAUNCH, [("name", LAUNCH.name)])
    for again in (driver.take_over(tmp_path), driver.start(LAUNCH, tmp_path)):
        with pytest.raises(SandboxUnavailable, match="the container was lost"):
            await again
    assert driver.asked == []


async def test_removing_leaves_no_folder(tmp_path):
    driver, folder = Recorded(tmp_path), tmp_path / "run"
    folder.mkdir()
    await driver.remove(folder)
    assert driver.asked == ["discard"]
    assert not folder.exists()


def test_what_others_may_read_already_is_left_alone(tmp_path):
    secret, program = tmp_path / "secret", tmp_path / "program"
    for path, mode in ((secret, 0o600), (program, 0o755)):
        path.touch()
        path.chmod(mode)
    let_read([secret, program])
    assert [path.stat().st_mode & 0o7777 for path in (secret, program)] == [0o644, 0o755]
