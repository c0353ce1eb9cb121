"""Checkpoints in transfer: their rules, and how either side of a lease fetches one.

Spec: specs/checkpoints.md#while-it-runs. A checkpoint is listed as outputs are; its log is empty.
"""

from node.data.blobs import Blobs
from node.data.output_manifest import (
    LISTING_BYTES_MAX,
    MIB,
    fault_of,
    pin_listing,
    read_listing,
)
from node.data.transfer import BlobFetcher, Holding
from protocol.values.errors import InvalidRequest
from protocol.wire.job import NO_LOG, BlobRef, Outputs, Workload


async def fetch_checkpoint(
    fetcher: BlobFetcher, blobs: Blobs, listing: BlobRef, workload: Workload, holding: Holding
) -> Outputs:
    """Fetch and pin a checkpoint; return what it lists.

    InvalidRequest if it breaks the rules, BlobUnavailable or StorageFull as of `fetch_all`.
    """
    digest = listing.digest
    blobs.pin(holding.owner, digest)
    await fetcher.fetch(digest, [holding.holder], holding.kind, LISTING_BYTES_MAX)
    outputs = await read_listing(blobs, digest)
    if fault := checkpoint_fault(outputs, workload):
        raise InvalidRequest(f"the checkpoint is invalid: {fault}")
    pin_listing(blobs, holding.owner, digest, outputs)
    await fetcher.fetch_all([file.blob for file in outputs.files], holding)
    return outputs


def checkpoint_fault(outputs: Outputs, workload: Workload) -> str:
    """Return why the listing of a checkpoint violates the rules, "" if it does not."""
    place = workload.checkpoint
    if any(file.path != place and not file.path.startswith(f"{place}/") for file in outputs.files):
        return f"it lists a file outside of {place}"
    if outputs.bundle:
        return "it has a bundle"
    if outputs.log != NO_LOG:
        return "it has a log"
    size = sum(file.blob.size for file in outputs.files)
    if workload.disk_in_memory and size > workload.resources.memory_mib * MIB:
        return f"its {size} bytes are more than the job's memory"
    return fault_of(outputs, workload)
