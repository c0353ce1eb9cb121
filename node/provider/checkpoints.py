"""The checkpoints of the jobs that we run: taken while they run, and restored before they start.

Spec: specs/checkpoints.md#while-it-runs.
"""

import shutil
from functools import partial

import trio

from node.data.output_manifest import read_listing
from node.provider.collect import collect_checkpoint
from node.provider.execution_context import ExecutionContext
from node.provider.prepare import sandbox_of
from node.sandbox.driver import RestoredFile, checkpoint_path
from protocol.machines.effects import TakeCheckpoint
from protocol.machines.inputs import CheckpointTaken
from protocol.values.errors import BlobUnavailable
from protocol.values.ids import LeaseId
from protocol.wire.job import Workload


async def take_checkpoint(
    context: ExecutionContext, effect: TakeCheckpoint
) -> CheckpointTaken | None:
    """Store a running job's checkpoint; None if there is no new one.

    Raises InvalidRequest, SandboxUnavailable or StorageFull.
    """
    lease_id, folder = effect.lease_id, context.run_folder(effect.lease_id)
    place = effect.workload.checkpoint
    mark = await sandbox_of(context).copy_checkpoint(folder, place, effect.mark)
    if not mark:
        return None
    owner = checkpoint_pins_of(lease_id)
    context.blobs.unpin(owner)  # The requester has answered: it needs no earlier one.
    try:
        listing, size = await collect_checkpoint(context.blobs, owner, folder)
    finally:
        # What is stored as blobs needs no second copy, which would count twice on the disk.
        await trio.to_thread.run_sync(partial(shutil.rmtree, checkpoint_path(folder), True))
    return CheckpointTaken(lease_id, mark, listing, size)


async def take_last_checkpoint(
    context: ExecutionContext, lease_id: LeaseId, workload: Workload, refused: tuple[str, ...]
) -> CheckpointTaken | None:
    """Store the checkpoint among a dead container's outputs; None if it is not there as a whole.

    Errors as of `take_checkpoint`.
    """
    place = ascii(workload.checkpoint)[1:-1]  # As the sandbox writes it; "and 7 more" is the end.
    if any(line.startswith((f"{place}:", f"{place}/", "and ")) for line in refused):
        return None
    folder, owner = context.run_folder(lease_id), checkpoint_pins_of(lease_id)
    listing, size = await collect_checkpoint(context.blobs, owner, folder, workload.checkpoint)
    files = (await read_listing(context.blobs, listing.digest)).files
    return CheckpointTaken(lease_id, b"", listing, size) if files else None


async def restored_files(context: ExecutionContext, workload: Workload) -> tuple[RestoredFile, ...]:
    """Return the files that a job finds in /out; BlobUnavailable if one is not stored here."""
    files = []
    for checkpoint in workload.resume:
        for file in (await read_listing(context.blobs, checkpoint.digest)).files:
            source = context.blobs.path(file.blob.digest)
            if source is None:
                raise BlobUnavailable(f"{file.path} of the checkpoint is no longer stored here")
            files.append(RestoredFile(file.path, source, file.executable))
    return tuple(files)


def checkpoint_pins_of(lease_id: LeaseId) -> str:
    """Return the owner of the pins of the checkpoints that we take of a lease's job."""
    return f"checkpoint {lease_id.hex()}"
