"""The Docker driver; most of it needs an engine that answers.

Spec: specs/execution.md#docker-driver.
"""

import os
import secrets
import socket

import pytest
import trio

from node.sandbox import runfolder, selftest
from node.sandbox.docker_driver import DockerDriver, engine_socket
from node.sandbox.driver import log_path, outputs_path
from protocol.values.errors import SandboxUnavailable
from tests.node.sandbox.conftest import launch_of, workload


def answers() -> bool:
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(engine_socket())
    except (OSError, SandboxUnavailable):
        return False
    return True


needs_engine = pytest.mark.skipif(not answers(), reason="no Docker Engine answers here")


@pytest.fixture
async def engine(tmp_path):
    driver = DockerDriver(tmp_path / "runs")
    driver.runs.mkdir()
    yield driver
    for folder in list(driver.runs.iterdir()):
        await driver.remove(folder)
    await driver.reap(frozenset())
    await driver.remove_selftest_image()
    driver.client.close()


async def start(driver, tmp_path, launch):
    folder = driver.runs / secrets.token_hex(4)
    folder.mkdir(mode=0o700)
    _, extra = selftest.host_rootfs(tmp_path / secrets.token_hex(4))
    await driver.start_with(launch, folder, (await driver.selftest_image(), extra))
    return folder


async def test_without_an_engine_the_probe_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none")
    probe = await DockerDriver(tmp_path).check()
    assert not probe.ok
    assert probe.why.startswith("Docker Engine: ")


async def test_a_remote_engine_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "tcp://10.0.0.1:2375")
    assert "Unix socket" in (await DockerDriver(tmp_path).check()).why


def test_the_usual_socket(monkeypatch):
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    assert engine_socket() == "/var/run/docker.sock"


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
    assert sorted(log_path(folder).read_text()) == sorted("inpute\n")
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
    assert len(engine.client.containers.list(filters={"name": launch.name})) == 1
    await engine.remove(folder)
    assert engine.client.containers.list(all=True, filters={"name": launch.name}) == []


@pytest.mark.docker
@needs_engine
async def test_an_image_is_loaded_once(engine, tmp_path):
    loads = []

    async def archive(path):
        loads.append(path)
        saved = engine.client.images.get(await engine.selftest_image()).save()
        await trio.to_thread.run_sync(lambda: path.write_bytes(b"".join(saved)))

    launch = launch_of(workload("/nothing"), image_archive=archive)
    name = f"mutirao:{launch.workload.image.hex()}"
    try:
        for _ in range(2):
            folder = engine.runs / secrets.token_hex(4)
            folder.mkdir()
            await engine.start(launch, folder)
            assert (await engine.wait(folder)).exit_code == 127
            await engine.remove(folder)
        assert len(loads) == 1
    finally:
        engine.client.images.remove(name)
