"""The Docker driver; most of it needs an engine that answers.

Spec: specs/sandbox.md#docker-driver.
"""

# ruff: noqa: ASYNC110

import io
import json
import os
import secrets
import tarfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import trio

from node.data.blobs import Blobs
from node.data.images import Images
from node.provider.prepare import HeldImage
from node.sandbox import runfolder, selftest
from node.sandbox.docker_driver import DockerDriver
from node.sandbox.docker_engine import engine_socket
from node.sandbox.driver import Probe, log_path, outputs_path
from protocol.values.ids import digest_of
from tests.node.data.conftest import MemoryIndex
from tests.node.sandbox.conftest import launch_of, needs_engine, workload
from tests.ordinary_user import folder_of_user, run_as_user


@pytest.fixture
async def engine(tmp_path):
    driver = DockerDriver(tmp_path / "runs", 1024)
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


def is_mounted_below(folder):
    return str(folder) in Path("/proc/self/mounts").read_text()


async def test_without_an_engine_the_probe_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none")
    probe = await DockerDriver(tmp_path, 1024).check()
    assert not probe.ok
    assert probe.why.startswith("Docker Engine: ")


async def test_a_remote_engine_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "tcp://10.0.0.1:2375")
    assert "Unix socket" in (await DockerDriver(tmp_path, 1024).check()).why


async def test_an_engine_that_fails_the_selftest_is_not_passed_over_in_silence(
    tmp_path, monkeypatch, caplog
):
    async def fail(_):
        return Probe(ok=False, why="it leaks")

    driver = DockerDriver(tmp_path, 1024)
    monkeypatch.setattr(driver.engine, "require", lambda _: None)
    monkeypatch.setattr(selftest, "check", fail)
    assert not (await driver.check()).ok
    assert "Docker Engine answers but is not used: it leaks" in caplog.text


async def test_reaping_lets_go_of_the_engine(tmp_path):
    class Client:
        closed = False
        api = SimpleNamespace(containers=lambda **_: [], volumes=lambda **_: {"Volumes": None})
        images = SimpleNamespace(remove=lambda _: None)

        def close(self):
            self.closed = True

    driver, client = DockerDriver(tmp_path, 1024), Client()
    driver.engine._client = client
    await driver.reap(frozenset())
    assert client.closed
    assert driver.engine._client is None


@pytest.mark.docker
@needs_engine
async def test_the_selftest_passes(engine):
    probe = await engine.check()
    assert probe.ok, probe.why
    assert set(probe.limits) == {"memory", "pids", "cpu", "time", "disk"} - engine.soft_limits()


@pytest.mark.docker
@needs_engine
async def test_a_job_runs_and_its_outputs_come_out(engine, tmp_path):
    blob = tmp_path / "blob"
    blob.write_text("input")
    project = tmp_path / "project"
    project.mkdir(mode=0o755)
    (project / "text").write_text("beside")
    (project / "link").symlink_to("text")
    line = (
        "cat /in/a; cat link; touch x 2>/dev/null || echo -n -; echo e >&2;"
        " echo data > /out/x; ln -s /etc/passwd /out/y; exit 7"
    )
    job = workload("/bin/sh", "-c", line, workdir="/in/d")
    launch = launch_of(job, inputs=(("a", blob), ("d", project)))
    folder = await start(engine, tmp_path, launch)
    end = await engine.wait(folder)
    assert (end.exit_code, end.reason, end.refused) == (7, "exited", ("y: a symbolic link",))
    log, note, rest = log_path(folder).read_text().partition("mutirao: not in the outputs: ")
    assert sorted(log.replace("\n", "")) == sorted("inputbeside-e"), (
        "an engine may mix up the streams"
    )
    assert (bool(note), rest) == (True, "y: a symbolic link\n")
    assert [path.name for path in outputs_path(folder).iterdir()] == ["x"]


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
async def test_a_container_beyond_its_budget_is_paused(engine, tmp_path):
    line = "for n in 1 2 3 4 5 6 7 8; do echo $n; sleep 0.25; done"
    job = launch_of(workload("/bin/sh", "-c", line), budget_ms=1000, pause_ms=60_000)
    waiting, gone = await start(engine, tmp_path, job), await start(engine, tmp_path, again(job))
    for folder in (waiting, gone):
        await paused(engine, folder)
    await engine.kill(gone)
    assert (await engine.wait(gone)).reason == "killed"
    said = log_path(waiting).read_text()
    await engine.extend(waiting, 60_000)
    end = await engine.wait(waiting)
    assert (end.reason, end.exit_code) == ("exited", 0)
    assert said.count("\n") < 8
    assert log_path(waiting).read_text().split() == list("12345678")


def again(launch):
    return replace(launch, name="mutirao-" + secrets.token_hex(16))


async def paused(engine, folder):
    containers = engine.engine.client().containers
    with trio.fail_after(30):
        while containers.get(runfolder.name_in(folder)).status != "paused":
            await trio.sleep(0.02)


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


HOSTILE = {
    "Env": ["LD_PRELOAD=/evil.so", "NVIDIA_VISIBLE_DEVICES=all", "HOSTNAME=evil", "KEPT=1"],
    "Labels": {"mutirao.owner": "you", "a": "b"},
    "Volumes": {"/in": {}, "/data": {}, "/usr/../home": {}},
    "ExposedPorts": {"80/tcp": {}},
    "User": "0",
    "WorkingDir": "/usr",
    "StopSignal": "SIGUSR1",
    "StopTimeout": 3600,
    "Healthcheck": {"Test": ["CMD", "touch", "/out/checked"], "Interval": 1_000_000},
    "Shell": ["/evil"],
    "OnBuild": ["RUN /evil"],
    "Entrypoint": ["/evil"],
    "Cmd": ["evil"],
}


def packed(files: dict[str, bytes], folder: Path | None = None) -> bytes:
    """A tar of files and of what is in a folder."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        if folder is not None:
            archive.add(folder, ".")
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


async def hostile_image(tmp_path) -> HeldImage:
    """An image whose config asks for much, taken in as a user would."""
    layer = packed({}, selftest.host_rootfs(tmp_path / "rootfs")[0])
    rootfs = {"type": "layers", "diff_ids": [f"sha256:{digest_of(layer).hex()}"]}
    config = {"os": "linux", "architecture": "amd64", "config": HOSTILE, "rootfs": rootfs}
    listing = [{"Config": "config.json", "RepoTags": [], "Layers": ["layer.tar"]}]
    files = {"config.json": json.dumps(config), "manifest.json": json.dumps(listing)}
    saved = tmp_path / "saved.tar"
    saved.write_bytes(packed({name: text.encode() for name, text in files.items()}
                             | {"layer.tar": layer}))  # fmt: skip
    blobs = Blobs(tmp_path / "blobs", MemoryIndex(), 256)
    await blobs.reconcile()
    images = Images(blobs, tmp_path / "blobs")
    job = replace(workload("none"), image=await images.import_path(saved))
    return HeldImage(job, SimpleNamespace(images=images))


@pytest.mark.docker
@needs_engine
async def test_an_image_has_no_say_in_how_it_is_run(engine, tmp_path, monkeypatch):
    proxies = {"proxies": {"default": {"httpProxy": "http://me:password@10.0.0.1:3128"}}}
    (tmp_path / "config.json").write_text(json.dumps(proxies))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    image = await hostile_image(tmp_path)
    line = "exec 2>&1; env | sort; touch /in/x || touch /data/x || echo read-only"
    job = workload("/bin/sh", "-c", line)
    launch = launch_of(job, image=await engine.prepare(image), env=(("KEPT", "1"),))
    folder = engine.runs / "hostile"
    folder.mkdir(mode=0o700)
    _, extra = selftest.host_rootfs(tmp_path / "again")
    await engine.start_with(launch, folder, extra)
    try:
        assert (await engine.wait(folder)).exit_code == 0
        log = log_path(folder).read_text()
        variables = [line.partition("=")[0] for line in log.splitlines() if "=" in line]
        ours = {"HOME", "HOSTNAME", "KEPT", "LANG", "NVIDIA_VISIBLE_DEVICES", "PATH", "TMPDIR"}
        ours |= {"OMP_NUM_THREADS"}
        assert set(variables) - {"PWD", "SHLVL", "_", "OLDPWD"} == ours, log
        assert "NVIDIA_VISIBLE_DEVICES=void" in log
        assert "\nread-only\n" in log
        found = engine.engine.client().api.inspect_container(launch.name)
        config = found["Config"]
        assert config["Labels"] == {"mutirao.owner": engine.owner}
        assert config["User"] == "65532:65532"
        left = ("Entrypoint", "ExposedPorts", "OnBuild", "Shell", "StopTimeout", "Volumes")
        assert not [name for name in left if config.get(name)]
        assert found["HostConfig"]["Runtime"] == "runc"
        assert {mount["Type"] for mount in found["Mounts"]} == {"bind"}
    finally:
        await engine.remove(folder)
        engine.engine.client().api.remove_image(f"mutirao:{image.digest.hex()}")


@pytest.mark.docker
@needs_engine
async def test_a_disk_is_bounded_and_goes_with_its_container_whoever_removes_it(engine, tmp_path):
    line = "head -c 40M /dev/zero > /scratch/x; df -k /out | tail -1; echo kept > /out/y; sleep 60"
    folder = await start(engine, tmp_path, launch_of(workload("/bin/sh", "-c", line)))
    again = DockerDriver(engine.runs, 1024)  # As a node that was killed and started again.
    if engine.disks.is_hard():
        with trio.fail_after(30):
            while "% /out" not in log_path(folder).read_text():
                await trio.sleep(0.01)
        assert is_mounted_below(folder)
        assert " 100% /out" in log_path(folder).read_text()
    else:
        assert (await again.wait(folder)).reason == "disk"
    await again.remove(folder)
    await again.reap(frozenset())
    assert not is_mounted_below(folder)
    assert not folder.exists()


AS_A_USER = """
import sys, trio
from pathlib import Path
from node.sandbox import runfolder
from node.sandbox.docker_driver import DockerDriver
from node.sandbox.docker_engine import engine_socket
from node.sandbox.driver import Probe, log_path, outputs_path
from tests.node.sandbox.conftest import launch_of, workload
from tests.node.sandbox.test_docker_driver import start

async def main(place):
    driver = DockerDriver(place / "runs", 1024)
    probe = await driver.check()
    print(probe.ok, *sorted(probe.limits), probe.why)
    line = "cat /in/a; umask 077; mkdir /out/d; echo secret > /out/d/x; exit 7"
    (place / "blob").write_text("input")
    (place / "blob").chmod(0o600)
    launch = launch_of(workload("/bin/sh", "-c", line), inputs=(("a", place / "blob"),))
    folder = await start(driver, place, launch)
    end = await driver.wait(folder)
    print(end.exit_code, end.reason, log_path(folder).read_text())
    print((outputs_path(folder) / "d/x").read_text().strip())
    line = (
        "head -c 8M /dev/zero > /out/x 2> /dev/null; wc -c < /out/x; rm /out/x; cd /out;"
        "for n in $(seq 1500); do mkdir d && cd d; done; echo deep"
    )
    job = workload("/bin/sh", "-c", line, disk_in_memory=True)
    folder = await start(driver, place, launch_of(job))
    print((await driver.wait(folder)).reason, *log_path(folder).read_text().splitlines()[:2])
    line = "head -c 40M /dev/zero > /scratch/x; exec sleep 60"
    folder = await start(driver, place, launch_of(workload("/bin/sh", "-c", line)))
    print((await driver.wait(folder)).reason)
    job = workload("/bin/sleep", "600", disk_in_memory=True)
    left = await start(driver, place, launch_of(job))
    for folder in set(driver.runs.iterdir()) - {left}:
        await driver.remove(folder)
    api = driver.engine.client().api
    label = {"label": f"mutirao.owner={driver.owner}"}
    print(len(api.containers(all=True, filters=label)), len(api.volumes(label)["Volumes"]))
    await driver.reap(frozenset())
    print((await driver.wait(left)).exit_code, list(api.containers(all=True, filters=label)),
          api.volumes(label)["Volumes"], api.images("mutirao:selftest-" + driver.owner))
trio.run(main, Path(sys.argv[1]))
"""


@pytest.mark.docker
@needs_engine
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
def test_an_ordinary_user_who_may_use_the_engine_has_it_as_a_sandbox():
    socket = engine_socket()
    groups = (Path(socket).stat().st_gid,)
    with folder_of_user() as place:
        done = run_as_user(AS_A_USER, str(place), groups=groups, DOCKER_HOST=f"unix://{socket}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "True cpu memory pids time ", "7 exited input", "secret", "exited 2097152 deep", "disk",
        "2 1",
        "137 [] [] []",
    ]  # fmt: skip


@needs_engine
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
async def test_a_job_in_a_container_of_the_engine_reaches_the_proxy(engine):
    assert await engine.check_egress() == ""
    assert list(engine.runs.iterdir()) == []


async def test_only_root_serves_a_proxy_in_docker(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "only a node that runs as root" in await DockerDriver(tmp_path, 1024).check_egress()
