"""Executions with real containers: what they leave, and how they outlive the daemon.

Spec: specs/execution.md#executions.
"""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from node.data.output_manifest import read_listing
from node.data.pack_writer import PackEntry, pack_chunks
from node.sandbox import runfolder
from node.sandbox.driver import ContainerSpec, log_path, name_of
from node.sandbox.embedded import EmbeddedDriver
from node.sandbox.runner import records
from node.sandbox.selftest import host_rootfs, python_command
from protocol.machines import effects, inputs
from protocol.values.errors import SandboxUnavailable
from protocol.wire.job import FileRef, Workload
from tests.node.fixtures import LEASE, NodeFolder, launch_of, running, until

pytestmark = pytest.mark.slow


class HostDriver(EmbeddedDriver):
    """Runs this machine's own programs, as the self-test does, whatever the image."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "runs")
        self._host, self._extra = host_rootfs(folder / "host")

    async def start(self, launch: ContainerSpec, folder: Path) -> None:
        await self.start_with(replace(launch, image=str(self._host)), folder, self._extra)


@pytest.fixture
async def real(tmp_path: Path, bea: NodeFolder) -> AsyncIterator[NodeFolder]:
    """The provider with the embedded sandbox."""
    (tmp_path / "bea").chmod(0o700)
    driver = HostDriver(tmp_path / "bea")
    node_folder = replace(bea, context=replace(bea.context, sandbox=driver))
    probe = tmp_path / "bea/runs/probe"
    probe.mkdir(mode=0o700)
    job = await bea.workload(command=("/bin/sh", "-c", "exit 0"))
    try:
        await driver.start(_launch(job, "mutirao-probe"), probe)
    except SandboxUnavailable as error:
        pytest.skip(f"no embedded sandbox here: {error}")
    await driver.wait(probe)
    await driver.remove(probe)
    yield node_folder
    for folder in list(node_folder.context.runs.iterdir()):
        await driver.remove(folder)
    await driver.reap(frozenset())


def _launch(job: Workload, name: str) -> ContainerSpec:
    return ContainerSpec(name=name, workload=job, image="")


async def python_job(node_folder: NodeFolder, code: str, **changes: Any) -> Workload:
    return replace(await node_folder.workload(), command=tuple(python_command(code)), **changes)


async def run_real(node_folder: NodeFolder, workload: Workload) -> inputs.ContainerExited:
    async with running(node_folder.executions()) as executions:
        executions.launch(launch_of(workload))
        return await node_folder.inbox.wait_for(inputs.ContainerExited)


async def test_real_many_outputs_in_folders(real: NodeFolder) -> None:
    code = (
        "import os\n"
        "for n in range(300):\n"
        "    os.makedirs(f'/out/d{n % 7}', exist_ok=True)\n"
        "    open(f'/out/d{n % 7}/{n}', 'w').write(str(n))\n"
    )
    ended = await run_real(real, await python_job(real, code, output_mib=16))
    assert ended.exit_code == 0, ended
    listing = await read_listing(real.blobs, ended.outputs.digest)
    assert len(listing.files) == 300
    assert [file.path for file in listing.files] == sorted(f"d{n % 7}/{n}" for n in range(300))


async def test_real_a_script_of_a_folder_finds_what_is_beside_it(
    real: NodeFolder, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "run.sh").write_text("#!/bin/sh\ncat link; ls -d empty; pwd; touch x || exit 7\n")
    (tmp_path / "text").write_text("text\n")
    entries = [
        PackEntry("empty", "folder"),
        PackEntry("link", "symbolic link", link="text"),
        PackEntry("run.sh", "file", (tmp_path / "run.sh").stat().st_size, executable=True),
        PackEntry("text", "file", 5),
    ]
    pack = await real.blobs.put_bytes(b"".join(pack_chunks(entries, tmp_path)), "input")
    workload = replace(
        await real.workload(), command=("./run.sh",), workdir="/in/project",
        inputs=(FileRef("project", pack, pack=True),),
    )  # fmt: skip
    ended = await run_real(real, workload)
    listing = await read_listing(real.blobs, ended.outputs.digest)
    log = await real.blobs.read(listing.log.digest)
    assert log.startswith(b"text\nempty\n/in/project\n")
    assert (ended.exit_code, b"Read-only file system" in log) == (7, True)


async def test_real_no_outputs_at_all(real: NodeFolder) -> None:
    ended = await run_real(real, await python_job(real, "print('quiet')"))
    listing = await read_listing(real.blobs, ended.outputs.digest)
    assert listing.files == ()
    assert await real.blobs.read(listing.log.digest) == b"quiet\n"
    assert ended.detail == ""


async def test_real_odd_outputs_are_left_out_and_named(real: NodeFolder) -> None:
    code = "import os; os.symlink('/etc/passwd', '/out/link'); open('/out/good', 'w').write('x')"
    ended = await run_real(real, await python_job(real, code))
    listing = await read_listing(real.blobs, ended.outputs.digest)
    assert [file.path for file in listing.files] == ["good"]
    assert "link: a symbolic link" in ended.detail


async def test_real_more_output_than_agreed(real: NodeFolder) -> None:
    code = "open('/out/big', 'wb').write(bytes(3 * 2**20)); open('/out/good', 'w').write('x')"
    ended = await run_real(real, await python_job(real, code))
    listing = await read_listing(real.blobs, ended.outputs.digest)
    assert [file.path for file in listing.files] == ["good"]
    assert "big: over the limit of output" in ended.detail


async def test_real_container_is_taken_over_by_the_next_run_of_the_node(real: NodeFolder) -> None:
    code = (
        "import os, time\n"
        "print('begun', flush=True)\n"
        "while not os.path.exists('/in/go') or not open('/in/go').read(): time.sleep(0.01)\n"
        "print('done')\n"
    )
    empty = await real.blobs.put_bytes(b"", "input")
    workload = await python_job(real, code)
    workload = replace(workload, inputs=((await real.workload(("go", b""))).inputs))
    log = log_path(real.run_folder())
    async with running(real.executions()) as executions:
        executions.launch(launch_of(workload))
        await real.inbox.wait_for(inputs.ContainerStarted)
        await until(lambda: b"begun" in log.read_bytes(), "the job to begin")
    async with running(real.executions()) as executions:
        # As in recovery: others' control groups go, this one stays.
        await real.context.sandbox.reap(frozenset({name_of(LEASE)}))
        executions.launch(launch_of(workload, 40_000))
        await real.inbox.wait_for(inputs.ContainerStarted)
        path = real.blobs.path(empty.digest)
        assert path is not None
        path.chmod(0o644)
        path.write_bytes(b"go")  # The job sees the file of ours that it waits for.
        ended = await real.inbox.wait_for(inputs.ContainerExited)
    assert (ended.exit_code, log.read_bytes()) == (0, b"begun\ndone\n")


async def test_real_drop_ends_a_running_container(real: NodeFolder) -> None:
    workload = await python_job(real, "import time; time.sleep(60)")
    async with running(real.executions()) as executions:
        executions.launch(launch_of(workload))
        await real.inbox.wait_for(inputs.ContainerStarted)
        assert runfolder.is_alive(real.run_folder())
        executions.drop(effects.Drop(LEASE))
        with trio.fail_after(5):
            await executions.wait_dropped()
        assert not real.run_folder().exists()


async def test_real_container_killed_with_its_machine(real: NodeFolder) -> None:
    workload = await python_job(real, "import time; time.sleep(60)")
    folder = real.run_folder()
    async with running(real.executions()) as executions:
        executions.launch(launch_of(workload))
        await real.inbox.wait_for(inputs.ContainerStarted)
    await real.context.sandbox.kill(folder)
    (folder / records.RESULT).unlink()  # The machine went down before it was written.
    async with running(real.executions()) as executions:
        executions.launch(launch_of(workload))
        failed = await real.inbox.wait_for(inputs.ContainerFailed)
    assert "lost when its machine went down" in failed.why
