"""The listing of an execution's outputs: a blob that names other blobs.

Spec: specs/sandbox.md#outputs.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import trio

from node.data.blobs import Blobs
from node.rpc.job_views import OutputView
from protocol.values.errors import BlobUnavailable
from protocol.values.ids import Digest
from protocol.wire.codec import decode
from protocol.wire.job import BlobRef, Outputs, Workload, is_safe_path

LISTING_BYTES_MAX: Final = 2 * 1024 * 1024
"""Unpacking takes up to 80 times as much memory: a provider chooses the bytes."""
MIB: Final = 1024 * 1024
LOG_NOTE_BYTES: Final = 256
"""Room for the sandbox's own line about a truncated log."""


async def read_listing(blobs: Blobs, digest: Digest) -> Outputs:
    """Return a listing; BlobUnavailable if it is not here or is malformed."""
    data = await blobs.read(digest, LISTING_BYTES_MAX)
    try:
        return await trio.to_thread.run_sync(decode, Outputs, data)
    except ValueError as error:
        raise BlobUnavailable(f"the list of outputs is broken: {error}") from None


@dataclass(frozen=True, slots=True)
class ListedOutput:
    """An output file, the blob that has its bytes, and where in it they begin."""

    view: OutputView
    blob: Digest
    offset: int = 0


async def listed_outputs(blobs: Blobs, digest: Digest) -> dict[str, ListedOutput]:
    """Return a listing's files by path; errors as of `read_listing`."""
    listing = await read_listing(blobs, digest)
    found, offset = {}, 0
    for file in listing.files:
        ref = file.blob
        view = OutputView(file.path, ref.size, ref.digest.hex(), file.executable)
        if file.bundled:
            found[file.path] = ListedOutput(view, listing.bundle[0].digest, offset)
            offset += ref.size
        else:
            found[file.path] = ListedOutput(view, ref.digest)
    return found


def blobs_of(outputs: Outputs) -> list[BlobRef]:
    """Return the blobs with the bytes of a listing's files."""
    return [*outputs.bundle, *(file.blob for file in outputs.files if not file.bundled)]


def pin_listing(blobs: Blobs, owner: str, digest: Digest, outputs: Outputs) -> None:
    """Pin a listing and all blobs that it names, present or not, for an owner."""
    blobs.pin(owner, digest, outputs.log.digest, *(ref.digest for ref in blobs_of(outputs)))


def log_bytes_max(workload: Workload) -> int:
    """Return the maximum size of a workload's log in bytes."""
    return workload.log_mib * MIB + LOG_NOTE_BYTES


def fault_of(outputs: Outputs, workload: Workload) -> str:
    """Return why a listing violates the rules, "" if it does not."""
    size = sum(file.blob.size for file in outputs.files)
    if size > workload.output_mib * MIB:
        return f"it claims {size} bytes of outputs, and {workload.output_mib} MiB were agreed"
    bundled = [file.blob.size for file in outputs.files if file.bundled]
    if sum(bundled) != sum(ref.size for ref in outputs.bundle) or (bundled and not outputs.bundle):
        return "the sizes of its bundle and of the files in it differ"
    if outputs.log.size > log_bytes_max(workload):
        return f"it claims a log of {outputs.log.size} bytes, over {workload.log_mib} MiB"
    if not all(is_safe_path(file.path) for file in outputs.files):
        return "it lists an output whose path leads out of its folder"
    # Sorted so that a file directly precedes the files of a folder with its name.
    names = sorted(file.path.replace("/", "\0") for file in outputs.files)
    if any(f"{after}\0".startswith(f"{name}\0") for name, after in pairwise(names)):
        return "it lists two outputs of the same name"
    return ""
