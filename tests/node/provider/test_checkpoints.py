"""Checkpoints are stored and pinned while their job runs, and restored from what is stored here.

Spec: specs/checkpoints.md#while-it-runs.
"""

from dataclasses import replace
from typing import Any

import pytest
import trio
import trio.testing

from node.data.output_manifest import read_listing
from node.provider.checkpoints import (
    checkpoint_pins_of,
    restored_files,
    take_checkpoint,
    take_last_checkpoint,
)
from node.sandbox.driver import Exit, checkpoint_path
from protocol.machines import effects, inputs
from protocol.values.errors import BlobUnavailable, SandboxUnavailable
from protocol.values.ids import digest_of
from protocol.wire.codec import encode
from protocol.wire.job import NO_LOG, FileRef, Outputs, Workload
from tests.node.fixtures import ADA, LEASE, NodeFolder, launch_of, running, until


async def begun(bea: NodeFolder, mark: bytes = b"1", **files: bytes) -> Workload:
    """Let a container have a checkpoint; return what it runs."""
    workload = replace(await bea.workload(), checkpoint="state")
    bea.run_folder().mkdir(parents=True, exist_ok=True)
    bea.sandbox.checkpoints[bea.run_folder()] = (mark, files)
    return workload


async def files_of(bea: NodeFolder, taken: Any) -> dict[str, bytes]:
    listing = await read_listing(bea.blobs, taken.listing.digest)
    assert listing.log == NO_LOG
    return {file.path: await bea.blobs.read(file.blob.digest) for file in listing.files}


async def test_a_checkpoint_is_stored_and_an_older_one_is_let_go(bea: NodeFolder) -> None:
    workload = await begun(bea, a=b"1", b=b"22")
    taken = await take_checkpoint(bea.context, effects.TakeCheckpoint(LEASE, workload, b""))
    assert taken is not None
    assert (taken.mark, taken.size) == (b"1", 3)
    assert await files_of(bea, taken) == {"state/a": b"1", "state/b": b"22"}
    await begun(bea, b"2", a=b"1", b=b"3")
    newer = await take_checkpoint(bea.context, effects.TakeCheckpoint(LEASE, workload, taken.mark))
    assert newer is not None
    pinned = bea.blobs._pins[checkpoint_pins_of(LEASE)]
    assert pinned == {newer.listing.digest, digest_of(b"1"), digest_of(b"3")}


async def test_nothing_new_is_nothing_to_store(bea: NodeFolder) -> None:
    workload = await begun(bea, b"1", a=b"1")
    assert await take_checkpoint(bea.context, effects.TakeCheckpoint(LEASE, workload, b"1")) is None


async def test_the_last_one_is_among_the_outputs(bea: NodeFolder) -> None:
    workload = await begun(bea)
    async with running(bea.executions()) as executions:
        executions.launch(launch_of(workload))
        await bea.inbox.wait_for(inputs.ContainerStarted)
        executions.terminate(effects.Terminate(LEASE, workload))
        await until(lambda: bea.sandbox.terminated == [bea.run_folder()])
        files = {"state/a": b"last", "stately": b"no", "other": b"no"}
        bea.sandbox.finish(bea.run_folder(), Exit(143, "exited", "", 9), **files)
        taken = await bea.inbox.wait_for(inputs.CheckpointTaken)
        assert await files_of(bea, taken) == {"state/a": b"last"}
        await bea.inbox.wait_for(inputs.ContainerExited)


async def test_one_that_is_being_taken_comes_before_the_last(bea: NodeFolder) -> None:
    workload = await begun(bea, a=b"older")
    bea.sandbox.copies = trio.Event()
    async with running(bea.executions()) as executions:
        executions.launch(launch_of(workload))
        await bea.inbox.wait_for(inputs.ContainerStarted)
        executions.take_checkpoint(effects.TakeCheckpoint(LEASE, workload, b""))
        executions.terminate(effects.Terminate(LEASE, workload))
        await until(lambda: bea.sandbox.terminated)
        bea.sandbox.finish(bea.run_folder(), Exit(143, "exited", "", 9), **{"state/a": b"last"})
        await trio.testing.wait_all_tasks_blocked()
        bea.sandbox.copies.set()
        found = [await bea.inbox.wait_for(inputs.CheckpointTaken) for _ in range(2)]
        assert [await files_of(bea, each) for each in found] == [
            {"state/a": b"older"}, {"state/a": b"last"},
        ]  # fmt: skip
        assert not checkpoint_path(bea.run_folder()).exists(), "one copy is enough"


@pytest.mark.parametrize("refused", [(), ("state/a: a symbolic link",), ("and 7 more",)])
async def test_a_last_one_that_is_missing_or_incomplete_is_none(
    bea: NodeFolder, refused: tuple[str, ...]
) -> None:
    workload = await begun(bea)
    if refused:
        (bea.run_folder() / "outputs").mkdir()
        (bea.run_folder() / "outputs" / "state").write_text("half of it")
    assert await take_last_checkpoint(bea.context, LEASE, workload, refused) is None


async def test_a_job_that_was_not_told_to_end_has_no_last_checkpoint(bea: NodeFolder) -> None:
    workload = await begun(bea)
    async with running(bea.executions()) as executions:
        executions.launch(launch_of(workload))
        await bea.inbox.wait_for(inputs.ContainerStarted)
        bea.sandbox.finish(bea.run_folder(), state=b"1")
        await bea.inbox.wait_for(inputs.ContainerExited)
    assert not bea.blobs._pins.get(checkpoint_pins_of(LEASE))


async def test_one_is_taken_at_a_time_and_a_failure_costs_only_that_one(bea: NodeFolder) -> None:
    workload = await begun(bea, a=b"1")
    effect = effects.TakeCheckpoint(LEASE, workload, b"")
    async with running(bea.executions()) as executions:
        executions.launch(launch_of(workload))
        await bea.inbox.wait_for(inputs.ContainerStarted)
        bea.sandbox.refuses = SandboxUnavailable("a bad moment")
        executions.take_checkpoint(effect)
        await until(lambda: executions._know(LEASE).taking is None)
        bea.sandbox.refuses = None
        executions.take_checkpoint(effect)
        executions.take_checkpoint(effect)
        await bea.inbox.wait_for(inputs.CheckpointTaken)
        executions.drop(effects.Drop(LEASE))
        await executions.wait_dropped()
        assert inputs.CheckpointTaken not in map(type, bea.inbox.events)
        assert checkpoint_pins_of(LEASE) not in bea.blobs._pins


async def test_a_node_waits_for_the_jobs_that_it_has_told(bea: NodeFolder) -> None:
    workload = await begun(bea)
    async with running(bea.executions()) as executions:
        await executions.wait_left()
        executions.launch(launch_of(workload))
        await bea.inbox.wait_for(inputs.ContainerStarted)
        executions.terminate(effects.Terminate(LEASE, workload))
        executions.drop(effects.Drop(LEASE))
        await executions.wait_left()
        await executions.wait_dropped()


async def kept(node: NodeFolder, **files: bytes) -> Workload:
    """Return a workload that continues from a checkpoint which a node has."""
    refs = tuple(
        [FileRef(f"state/{name}", await node.blobs.put_bytes(data, "output"), name == "tool")
         for name, data in files.items()]
    )  # fmt: skip
    listing = await node.blobs.put_bytes(encode(Outputs(refs, NO_LOG)), "output")
    return replace(await node.workload(), checkpoint="state", resume=(listing,))


async def test_an_attempt_gets_what_its_requester_kept(ada: NodeFolder, bea: NodeFolder) -> None:
    workload = await kept(ada, data=b"1", tool=b"2")
    async with running(bea.executions()) as executions:
        executions.prepare(effects.Prepare(LEASE, ADA.peer_id, workload))
        await bea.inbox.wait_for(inputs.Prepared)
        executions.launch(launch_of(workload))
        await bea.inbox.wait_for(inputs.ContainerStarted)
        spec = bea.sandbox.containers[bea.run_folder()].spec
    found = {(each.path, each.source.read_bytes(), each.executable) for each in spec.restored}
    assert found == {("state/data", b"1", False), ("state/tool", b"2", True)}


async def test_a_checkpoint_beyond_the_rules_is_not_prepared(
    ada: NodeFolder, bea: NodeFolder
) -> None:
    workload = replace(await kept(ada, data=b"1"), checkpoint="elsewhere")
    async with running(bea.executions()) as executions:
        executions.prepare(effects.Prepare(LEASE, ADA.peer_id, workload))
        failed = await bea.inbox.wait_for(inputs.PrepareFailed)
    assert failed.why == ("the checkpoint is invalid: it lists a file outside of elsewhere")


async def test_what_is_no_longer_stored_is_not_restored(bea: NodeFolder) -> None:
    workload = await kept(bea, data=b"1")
    await bea.blobs.drop(digest_of(b"1"))
    with pytest.raises(BlobUnavailable, match="state/data of the checkpoint"):
        await restored_files(bea.context, workload)
