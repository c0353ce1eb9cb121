"""Executions begin, end, are taken over and removed, whatever happens in between.

Spec: specs/execution.md#executions.
"""

from dataclasses import replace

import pytest
import trio

from node.data.output_manifest import read_listing
from node.provider.execution_context import pins_of
from node.sandbox.driver import Exit, log_path, name_of
from protocol.machines import effects, inputs
from protocol.values.errors import SandboxUnavailable, StorageFull
from protocol.values.ids import LeaseId
from protocol.wire.job import Workload
from tests.node.fixtures import ADA, LEASE, NodeFolder, egress_of, launch_of, running, until


def prepare_of(workload: Workload) -> effects.Prepare:
    return effects.Prepare(LEASE, ADA.peer_id, workload)


async def test_from_preparing_to_the_end(ada: NodeFolder, bea: NodeFolder) -> None:
    workload = await ada.workload(("data", b"input"))
    async with running(bea.executions()) as executions:
        executions.prepare(prepare_of(workload))
        await bea.inbox.wait_for(inputs.Prepared)
        assert (bea.context.image_cache.path(workload.image) / "file").read_bytes() == b"hello"
        executions.launch(launch_of(workload))
        await bea.inbox.wait_for(inputs.ContainerStarted)
        folder = bea.run_folder()
        container = bea.sandbox.containers[folder]
        assert container.spec.name == name_of(LEASE)
        assert [(name, path.read_bytes()) for name, path in container.spec.inputs] == [
            ("data", b"input")
        ]
        log_path(folder).write_bytes(b"hello from the job\n")
        bea.sandbox.finish(folder, Exit(3, "exited", "", 1_234), result=b"42")
        ended = await bea.inbox.wait_for(inputs.ContainerExited)
        assert (ended.exit_code, ended.reason, ended.usage_ms) == (3, "exited", 1_234)
        listing = await read_listing(bea.blobs, ended.outputs.digest)
        assert [file.path for file in listing.files] == ["result"]
        assert await bea.blobs.read(listing.log.digest) == b"hello from the job\n"
        executions.drop(effects.Drop(LEASE))
        await executions.wait_dropped()
        assert not folder.exists()
        assert pins_of(LEASE) not in bea.blobs._pins


async def test_a_job_reaches_only_what_the_owner_allows(ada: NodeFolder, bea: NodeFolder) -> None:
    workload = replace(await ada.workload(), egress=("a.org", "b.org"))
    async with running(bea.executions()) as executions:
        executions.prepare(prepare_of(workload))
        failed = await bea.inbox.wait_for(inputs.PrepareFailed)
    assert failed.why == "the owner of this node does not let jobs reach a.org, b.org"


async def test_a_job_has_its_proxy_while_it_runs(ada: NodeFolder, bea: NodeFolder) -> None:
    workload = replace(await ada.workload(), egress=("a.org",))
    folder = bea.run_folder()
    async with running(bea.executions(egress=egress_of(bea.folder, "a.org"))) as executions:
        executions.prepare(prepare_of(workload))
        await bea.inbox.wait_for(inputs.Prepared)
        executions.launch(launch_of(workload))
        await until(lambda: folder in bea.sandbox.listeners)
        place = ("127.0.0.1", bea.sandbox.listeners[folder])
        async with await trio.open_tcp_stream(*place) as stream:
            await stream.send_all(b"CONNECT b.org:443 HTTP/1.1\r\n\r\n")
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 403 mutirao: b.org is not")
        bea.sandbox.finish(folder)
        await bea.inbox.wait_for(inputs.ContainerExited)
        executions.drop(effects.Drop(LEASE))
        await executions.wait_dropped()
        with pytest.raises(OSError, match="onnect"):
            await trio.open_tcp_stream(*place)


async def test_a_large_image_is_part_of_preparing_and_not_of_the_start(bea: NodeFolder) -> None:
    workload = await bea.workload()
    bea.sandbox.prepares = trio.Event()
    async with running(bea.executions()) as executions:
        executions.prepare(prepare_of(workload))
        await until(lambda: bool(bea.sandbox.prepared))
        await trio.testing.wait_all_tasks_blocked()
        assert inputs.Prepared(LEASE) not in bea.inbox.events
        bea.sandbox.prepares.set()
        await bea.inbox.wait_for(inputs.Prepared)
        executions.launch(launch_of(workload))
        await bea.inbox.wait_for(inputs.ContainerStarted)
        root = bea.context.image_cache.path(workload.image)
        assert bea.sandbox.containers[bea.run_folder()].spec.image == str(root)


async def test_a_drop_does_not_wait_for_a_large_image(bea: NodeFolder) -> None:
    workload = await bea.workload()
    bea.sandbox.prepares = trio.Event()
    async with running(bea.executions()) as executions:
        executions.prepare(prepare_of(workload))
        await until(lambda: bool(bea.sandbox.prepared))
        executions.drop(effects.Drop(LEASE))
        await executions.wait_dropped()
        assert inputs.Prepared(LEASE) not in bea.inbox.events


async def test_what_runs_already_needs_no_image(bea: NodeFolder) -> None:
    workload = await bea.workload()
    async with running(bea.executions()) as executions:
        executions.launch(launch_of(workload))
        await bea.inbox.wait_for(inputs.ContainerStarted)
    bea.sandbox.containers[bea.run_folder()].used_ms = 7
    bea.context.blobs.unpin(pins_of(LEASE))
    await bea.blobs.drop(workload.image)
    async with running(bea.executions()) as executions:  # A new node, and its image is gone.
        executions.launch(launch_of(workload, 40_000))
        started = await bea.inbox.wait_for(inputs.ContainerStarted)
        assert started == inputs.ContainerStarted(LEASE, 7)
        assert (len(bea.sandbox.prepared), len(bea.sandbox.started)) == (1, 1)
        assert bea.sandbox.budgets[-1] == 40_000


async def test_a_signal_becomes_a_code_of_one_byte(bea: NodeFolder) -> None:
    workload = await bea.workload()
    async with running(bea.executions()) as executions:
        executions.launch(launch_of(workload))
        await bea.inbox.wait_for(inputs.ContainerStarted)
        bea.sandbox.finish(bea.run_folder(), Exit(-9, "killed", "", 1))
        assert (await bea.inbox.wait_for(inputs.ContainerExited)).exit_code == 247


@pytest.mark.parametrize(
    "error", [SandboxUnavailable("no namespaces"), StorageFull("no room"), OSError(28, "full")]
)
async def test_a_sandbox_that_cannot_start_fails_the_lease_and_no_more(
    bea: NodeFolder, error: Exception
) -> None:
    workload = await bea.workload()
    bea.sandbox.refuses = error
    async with running(bea.executions()) as executions:
        executions.launch(launch_of(workload))
        assert (await bea.inbox.wait_for(inputs.ContainerFailed)).why


@pytest.mark.parametrize(
    "said, told",
    [
        ("the image's /out is not a folder", "the image's /out is not a folder"),
        ("the image has a path '../x' or usr/lib", "the image has a path '../x' or usr/lib"),
        ("cannot write to {data}/runs: full", "cannot write to (a path): full"),
        ('mounting "{data}/runs/1/out" at "/out": no', 'mounting "(a path)" at "/out": no'),
        ("lchown /var/lib/docker/overlay2/a-b/merged: denied", "lchown (a path): denied"),
        ("no answer at unix:///run/user/1000/docker.sock", "no answer at unix:(a path)"),
    ],
)
async def test_the_requester_hears_no_path_of_this_machine(
    bea: NodeFolder, said: str, told: str, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    workload = await bea.workload()
    said = said.format(data=bea.context.runs.parent)

    async def fail(*_: object) -> str:
        raise SandboxUnavailable(said)

    async with running(bea.executions()) as executions:
        monkeypatch.setattr(bea.sandbox, "prepare", fail)
        executions.prepare(prepare_of(workload))
        assert (await bea.inbox.wait_for(inputs.PrepareFailed)).why == told
        executions.launch(launch_of(workload))
        assert (await bea.inbox.wait_for(inputs.ContainerFailed)).why == told
    assert caplog.text.count(said) == 2


async def test_inputs_are_executable_if_they_are_to_be(bea: NodeFolder) -> None:
    workload = await bea.workload(("data", b"1"), ("tool", b"2"))
    data, tool = workload.inputs
    workload = replace(workload, inputs=(data, replace(tool, executable=True)))
    async with running(bea.executions()) as executions:
        executions.launch(launch_of(workload))
        await bea.inbox.wait_for(inputs.ContainerStarted)
    found = dict(bea.sandbox.containers[bea.run_folder()].spec.inputs)
    modes = {name: path.stat().st_mode & 0o111 for name, path in found.items()}
    assert modes == {"data": 0, "tool": 0o111}


async def test_a_sandbox_that_breaks_fails_the_lease(bea: NodeFolder) -> None:
    workload = await bea.workload()
    async with running(bea.executions()) as executions:
        executions.launch(launch_of(workload))
        await bea.inbox.wait_for(inputs.ContainerStarted)
        bea.sandbox.finish(bea.run_folder(), Exit(137, "failed", "the runner died", 0))
        failed = await bea.inbox.wait_for(inputs.ContainerFailed)
        assert failed.why == "the runner died"


async def test_an_image_that_is_gone_fails_the_lease(bea: NodeFolder) -> None:
    workload = await bea.workload()
    await bea.blobs.drop(workload.image)
    async with running(bea.executions()) as executions:
        executions.launch(launch_of(workload))
        assert "is not here" in (await bea.inbox.wait_for(inputs.ContainerFailed)).why


async def test_a_container_that_was_lost_does_not_run_again(bea: NodeFolder) -> None:
    workload, folder = await bea.workload(), bea.run_folder()
    bea.sandbox.lost.add(folder)
    async with running(bea.executions()) as executions:
        executions.launch(launch_of(workload))
        failed = await bea.inbox.wait_for(inputs.ContainerFailed)
        assert "the container was lost" in failed.why
        assert (bea.sandbox.prepared, bea.sandbox.started) == ([], [])


async def test_leases_of_a_node_that_has_no_sandbox_any_more(bea: NodeFolder) -> None:
    workload, folder = await bea.workload(), bea.run_folder()
    folder.mkdir()
    async with running(bea.executions(sandbox=None)) as executions:
        executions.prepare(prepare_of(workload))
        assert "has no sandbox" in (await bea.inbox.wait_for(inputs.PrepareFailed)).why
        executions.launch(launch_of(workload))
        assert "has no sandbox" in (await bea.inbox.wait_for(inputs.ContainerFailed)).why
        executions.kill(effects.Kill(LEASE))
        await bea.inbox.wait_for(inputs.ContainerFailed)
        executions.extend(effects.Extend(LEASE, 1))
        executions.drop(effects.Drop(LEASE))
        await executions.wait_dropped()


async def test_budgets_only_grow(bea: NodeFolder) -> None:
    workload = await bea.workload()
    async with running(bea.executions()) as executions:
        executions.launch(launch_of(workload, 35_000))
        executions.extend(effects.Extend(LEASE, 40_000))  # It has not started yet.
        await bea.inbox.wait_for(inputs.ContainerStarted)
        assert bea.sandbox.budgets[-1] == 40_000
        executions.extend(effects.Extend(LEASE, 60_000))
        executions.extend(effects.Extend(LEASE, 50_000))
        await until(lambda: len(bea.sandbox.budgets) >= 3)
        assert bea.sandbox.budgets == sorted(bea.sandbox.budgets)
        assert bea.sandbox.budgets[-1] == 60_000
        assert await bea.inbox.wait_for(inputs.ContainerExtended) == (
            inputs.ContainerExtended(LEASE, 0)
        ), "the stand-in for a sandbox keeps no time"


async def test_a_late_extension_of_a_dropped_lease_does_nothing(bea: NodeFolder) -> None:
    workload = await bea.workload()
    async with running(bea.executions()) as executions:
        executions.launch(launch_of(workload))
        await bea.inbox.wait_for(inputs.ContainerStarted)
        executions.drop(effects.Drop(LEASE))
        executions.extend(effects.Extend(LEASE, 99_000))
        await executions.wait_dropped()
        await trio.testing.wait_all_tasks_blocked()
        assert not bea.run_folder().exists()  # The sandbox insists on a folder to extend in.


async def test_a_drop_waits_for_a_start_and_leaves_nothing(bea: NodeFolder) -> None:
    workload = await bea.workload()
    bea.sandbox.starts = trio.Event()
    async with running(bea.executions()) as executions:
        executions.launch(launch_of(workload))
        await until(lambda: bool(bea.sandbox.asked))
        executions.drop(effects.Drop(LEASE))
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert bea.sandbox.removed == []  # The start is under way: nobody pulls its folder away.
        bea.sandbox.starts.set()
        await executions.wait_dropped()
        assert not bea.run_folder().exists()
        assert bea.inbox.events == []


async def test_a_drop_right_after_the_launch_starts_nothing(bea: NodeFolder) -> None:
    workload = await bea.workload()
    async with running(bea.executions()) as executions:
        executions.launch(launch_of(workload))
        executions.drop(effects.Drop(LEASE))
        await executions.wait_dropped()
        assert bea.sandbox.started == []
        assert not bea.run_folder().exists()


async def test_a_stopping_node_finishes_its_drops(bea: NodeFolder) -> None:
    workload = await bea.workload()
    async with trio.open_nursery() as nursery:
        executions = bea.executions()
        await nursery.start(executions.run)
        executions.launch(launch_of(workload))
        await bea.inbox.wait_for(inputs.ContainerStarted)
        executions.drop(effects.Drop(LEASE))
        nursery.cancel_scope.cancel()  # Before the drop has had a chance to begin.
    assert not bea.run_folder().exists()
    assert bea.sandbox.removed == [bea.run_folder()]


async def test_a_node_that_just_ends_leaves_its_containers_alone(bea: NodeFolder) -> None:
    workload = await bea.workload()
    async with running(bea.executions()) as executions:
        executions.launch(launch_of(workload))
        await bea.inbox.wait_for(inputs.ContainerStarted)
    assert bea.run_folder().exists()
    assert not bea.sandbox.killed


async def test_what_cannot_be_removed_or_killed_stops_nobody(bea: NodeFolder) -> None:
    workload = await bea.workload()
    async with running(bea.executions()) as executions:
        executions.launch(launch_of(workload))
        await bea.inbox.wait_for(inputs.ContainerStarted)
        bea.sandbox.refuses = SandboxUnavailable("the engine does not answer")
        executions.kill(effects.Kill(LEASE))
        executions.drop(effects.Drop(LEASE))
        await executions.wait_dropped()
    assert bea.run_folder().exists()  # For the next start.


async def test_a_container_to_be_stopped_that_an_earlier_run_started(bea: NodeFolder) -> None:
    workload = await bea.workload()
    async with running(bea.executions()) as executions:
        executions.launch(launch_of(workload))
        await bea.inbox.wait_for(inputs.ContainerStarted)
    async with running(bea.executions()) as executions:  # A new node, in the state Stopping.
        executions.kill(effects.Kill(LEASE))
        ended = await bea.inbox.wait_for(inputs.ContainerExited)
        assert ended.reason == "killed"


async def test_outputs_that_were_refused_are_named(bea: NodeFolder) -> None:
    workload = await bea.workload()
    async with running(bea.executions()) as executions:
        executions.launch(launch_of(workload))
        await bea.inbox.wait_for(inputs.ContainerStarted)
        folder = bea.run_folder()
        refused = ("link: a symbolic link",)
        bea.sandbox.finish(folder, Exit(0, "exited", "", 1, refused=refused))
        ended = await bea.inbox.wait_for(inputs.ContainerExited)
        assert ended.detail == "some of /out was not collected: link: a symbolic link"


async def test_a_log_is_its_requesters_until_the_drop(bea: NodeFolder) -> None:
    workload = await bea.workload()
    async with running(bea.executions()) as executions:
        assert executions.log_of(LEASE) is None
        executions.launch(launch_of(workload))
        await bea.inbox.wait_for(inputs.ContainerStarted)
        log = log_path(bea.run_folder())
        assert executions.log_of(LEASE) == (ADA.peer_id, log, True)
        bea.sandbox.finish(bea.run_folder())
        await bea.inbox.wait_for(inputs.ContainerExited)
        await until(lambda: executions.log_of(LEASE) == (ADA.peer_id, log, False))
        executions.drop(effects.Drop(LEASE))
        await executions.wait_dropped()
        assert executions.log_of(LEASE) is None


async def test_an_unpacked_image_in_use_is_not_swept(
    bea: NodeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As soon as anything was unpacked there is too much.
    monkeypatch.setattr(
        bea.context.image_cache, "_lack", lambda: "room" if bea.context.image_cache._sizes else ""
    )
    workload = await bea.workload()
    async with running(bea.executions()) as executions:
        executions.prepare(prepare_of(workload))
        await bea.inbox.wait_for(inputs.Prepared)
        await until(lambda: not executions._active)
        assert bea.context.image_cache.path(workload.image).exists()
        executions.drop(effects.Drop(LEASE))
        await executions.wait_dropped()
        other = replace(prepare_of(await bea.workload()), lease_id=LeaseId(b"M" * 32))
        executions.prepare(
            replace(other, workload=replace(other.workload, image=await bea.image(b"2")))
        )
        await bea.inbox.wait_for(inputs.Prepared)
        await until(lambda: not bea.context.image_cache.path(workload.image).exists())
