"""The driver for gVisor: the self-test and a job on a kernel of its own, where runsc is installed.

Spec: specs/sandbox.md#gvisor-driver.
"""

import os
import secrets
from dataclasses import replace

import pytest

from node.sandbox import selftest
from node.sandbox.driver import log_path
from node.sandbox.gvisor import GvisorDriver
from protocol.values.isolation import Isolation
from tests.node.sandbox.conftest import launch_of, needs_engine, workload

pytestmark = [pytest.mark.docker, needs_engine]


@pytest.fixture
async def gvisor(tmp_path):
    driver = GvisorDriver(tmp_path / "runs", 1024)
    driver.runs.mkdir()
    yield driver
    for folder in list(driver.runs.iterdir()):
        await driver.remove(folder)
    await driver.reap(frozenset())


async def test_an_engine_without_the_runtime_is_refused(gvisor, monkeypatch):
    monkeypatch.setattr(gvisor, "runtime", "runsc-that-nobody-installed")
    probe = await gvisor.check()
    assert probe.why.startswith("Docker Engine has no runtime runsc-that-nobody-installed; install")


async def test_a_job_has_a_kernel_of_its_own(gvisor, tmp_path):
    probe = await gvisor.check()
    if "no runtime" in probe.why:
        pytest.skip(os.environ.get("MISSING_GVISOR", probe.why))
    assert probe.ok, probe.why
    assert "pids" not in probe.limits, "they bound the threads of its kernel, too"
    assert gvisor.isolation == Isolation.GVISOR
    folder = gvisor.runs / secrets.token_hex(4)
    folder.mkdir(mode=0o700)
    rootfs, extra = selftest.host_rootfs(tmp_path / "rootfs")
    image = await gvisor.selftest_image(rootfs)
    job = launch_of(workload(*selftest.python_command("import os; print(os.uname().release)")))
    await gvisor.start_with(replace(job, image=image), folder, extra)
    assert (await gvisor.wait(folder)).exit_code == 0
    assert log_path(folder).read_text().strip() not in {"", os.uname().release}
