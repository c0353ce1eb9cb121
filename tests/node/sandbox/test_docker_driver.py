"""The Docker driver; most of it needs an engine that answers.

Spec: specs/execution.md#docker-driver.
"""

import os
import secrets
from dataclasses import replace
from types import SimpleNamespace

import pytest

from node.sandbox import runfolder, selftest
from node.sandbox.docker_driver import DockerDriver
from node.sandbox.driver import log_path, outputs_path
from tests.node.sandbox.conftest import launch_of, needs_engine, workload


@pytest.fixture
async def engine(tmp_path):
    driver = DockerDriver(tmp_path / "runs")
    driver.runs.mkdir()
    yield driver
    for folder in list(driver.runs.iterdir()):
        await driver.remove(folder)
    await driver.reap(frozenset())
    await driver.forget_selftest_image()


async def start(driver, tmp_path, launch):
    folder = driver.runs / secrets.token_hex(4)
    folder.mkdir(mode=0o700)
    rootfs, extra = selftest.host_rootfs(tmp_path / secrets.token_hex(4))
    image = await driver.selftest_image(rootfs)
    await driver.start_with(replace(launch, image=image), folder, extra)
    return folder


async def test_without_an_engine_the_probe_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none")
    probe = await DockerDriver(tmp_path).check()
    assert not probe.ok
    assert probe.why.startswith("Docker Engine: ")


async def test_a_remote_engine_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "tcp://10.0.0.1:2375")
    assert "Unix socket" in (await DockerDriver(tmp_path).check()).why


async def test_reaping_lets_go_of_the_engine(tmp_path):
    class Client:
        closed = False
        api = SimpleNamespace(containers=lambda **_: [])

        def close(self):
            self.closed = True

    driver, client = DockerDriver(tmp_path), Client()
    driver.engine._client = client
    await driver.reap(frozenset())
    assert client.closed
    assert driver.engine._client is None


@pytest.mark.docker
@needs_engine
async def test_the_selftest_passes(engine):
    probe = await engine.check()
    assert probe.ok, probe.why
    assert set(probe.limits) == {"memory", "pids", "cpu", "time"}


@pytest.mark.docker
@needs_engine
async def test_a_job_runs_and_its_outputs_come_out(engine, tmp_path):
    blob = tmp_path / "blob"
    blob.write_text("input")
    line = "cat /in/a; echo e >&2; echo data > /out/x; ln -s /etc/passwd /out/y; exit 7"
    launch = launch_of(workload("/bin/sh", "-c", line), inputs=(("a", blob),))
    folder = await start(engine, tmp_path, launch)
    end = await engine.wait(folder)
    assert (end.exit_code, end.reason) == (7, "exited")
    log, note, rest = log_path(folder).read_text().partition("mutirao: left out of the outputs: ")
    assert sorted(log.replace("\n", "")) == sorted("inpute"), "an engine may mix up the streams"
    assert (bool(note), rest) == (True, "y: a symbolic link\n")
    assert [path.name for path in outputs_path(folder).iterdir()] == ["x"]
    assert runfolder.outputs_refused(folder) == ("y: a symbolic link",)


@pytest.mark.docker
@needs_engine
async def test_a_log_flood_is_cut(engine, tmp_path):
    line = "head -c 20M /dev/zero | tr '\\0' x; echo y > /out/alive"
    folder = await start(engine, tmp_path, launch_of(workload("/bin/sh", "-c", line)))
    assert (await engine.wait(folder)).exit_code == 0
    assert log_path(folder).stat().st_size < (1 << 20) + 100


@pytest.mark.docker
@needs_engine
async def test_time_budget_and_kill(engine, tmp_path):
    job = workload("/bin/sleep", "60", timeout_ms=1500)
    late = await start(engine, tmp_path, launch_of(job))
    poor = await start(engine, tmp_path, launch_of(job, budget_ms=1000))
    gone = await start(engine, tmp_path, launch_of(job))
    await engine.kill(gone)
    assert (await engine.wait(gone)).reason == "killed"
    assert (await engine.wait(poor)).reason == "budget"
    assert (await engine.wait(late)).reason == "timeout"


@pytest.mark.docker
@needs_engine
async def test_a_container_whose_runner_died_is_reaped(engine, tmp_path):
    from node.sandbox.runner import lock

    launch = launch_of(workload("/bin/sleep", "60"))
    folder = await start(engine, tmp_path, launch)
    os.kill(lock.holder(str(folder / "lock")), 9)
    assert (await engine.wait(folder)).reason == "failed"
    await engine.reap(frozenset({launch.name}))
    assert len(engine.engine.client().containers.list(filters={"name": launch.name})) == 1
    await engine.remove(folder)
    assert engine.engine.client().containers.list(all=True, filters={"name": launch.name}) == []


@pytest.mark.docker
@needs_engine
async def test_a_command_that_does_not_exist_or_may_not_run(engine, tmp_path):
    for command, code, line in (
        ("/no/such", 127, "/no/such: not found in the image"),
        ("/etc", 126, "/etc: Permission denied"),
    ):
        folder = await start(engine, tmp_path, launch_of(workload(command, "x")))
        end = await engine.wait(folder)
        assert (end.exit_code, end.reason, end.detail) == (code, "exited", line)
        assert log_path(folder).read_text().endswith(f"mutirao: {line}\n")
