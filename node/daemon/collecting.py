"""Keeps what an execution left, its log and the files of /out, as blobs that a listing names.

Spec: specs/execution.md#outputs.
"""

import stat
from pathlib import Path

import trio

from node.daemon.listing import LISTING_BYTES_MAX
from node.data.blobs import Blobs
from node.sandbox.driver import log_path, outputs_path
from protocol.values.errors import InvalidRequest
from protocol.wire.codec import encode
from protocol.wire.job import BlobRef, FileRef, Outputs


async def collect(blobs: Blobs, owner: str, folder: Path) -> BlobRef:
    """Keep log and outputs of a run folder, pinned; return the blob that lists them.

    InvalidRequest if a file cannot be read, StorageFull if there is no room.
    """
    root = outputs_path(folder)
    log = await _keep(blobs, owner, log_path(folder), "log")
    files = [
        FileRef(name, await _keep(blobs, owner, root / name, "output"), _may_run(root / name))
        for name in await trio.to_thread.run_sync(_names_below, root)
    ]
    data = await trio.to_thread.run_sync(encode, Outputs(tuple(files), log))
    if len(data) > LISTING_BYTES_MAX:
        raise InvalidRequest(f"the names of {len(files)} outputs take more than 2 MiB")
    listing = await blobs.put_bytes(data, "output")
    blobs.pin(owner, listing.digest)
    return listing


async def _keep(blobs: Blobs, owner: str, path: Path, kind: str) -> BlobRef:
    ref = await blobs.put_file(path, kind)
    blobs.pin(owner, ref.digest)
    return ref


def _names_below(root: Path) -> list[str]:
    """Return the paths of all files, sorted; none if there is no folder of outputs."""
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def _may_run(path: Path) -> bool:
    return bool(path.stat().st_mode & stat.S_IXUSR)
