"""Stores the log of an execution and its files in /out as blobs that a listing names.

Spec: specs/sandbox.md#outputs.
"""

import io
import os
import stat
from functools import partial
from pathlib import Path

import trio

from node.data.blobs import Blobs, BlobSource
from node.data.disk import open_regular
from node.data.output_manifest import LISTING_BYTES_MAX
from node.sandbox.driver import log_path, outputs_path
from protocol.values.errors import InvalidRequest
from protocol.wire.codec import encode
from protocol.wire.job import BlobRef, FileRef, Outputs


async def collect(blobs: Blobs, owner: str, folder: Path) -> BlobRef:
    """Store and pin log and outputs of a run folder; return the blob that lists them.

    InvalidRequest if a file cannot be read, StorageFull if there is no room: all or none is stored.
    """
    found, log = await trio.to_thread.run_sync(_sources_of, folder)
    sources = [log, *(source for _, source, _ in found)]
    log_ref, *refs = await blobs.put_all(sources, owner)
    files = [
        FileRef(name, ref, may_run) for ref, (name, _, may_run) in zip(refs, found, strict=True)
    ]
    data = await trio.to_thread.run_sync(encode, Outputs(tuple(files), log_ref))
    if len(data) > LISTING_BYTES_MAX:
        raise InvalidRequest(f"the names of {len(files)} outputs take more than 2 MiB")
    (listing,) = await blobs.put_all(
        [BlobSource(partial(io.BytesIO, data), len(data), "output")], owner
    )
    return listing


def _sources_of(folder: Path) -> tuple[list[tuple[str, BlobSource, bool]], BlobSource]:
    return _outputs_below(outputs_path(folder)), _source(log_path(folder), "log")


def _outputs_below(root: Path) -> list[tuple[str, BlobSource, bool]]:
    """Return path, content and executability of all files, sorted; [] if there is no folder."""
    found = []
    for path in root.rglob("*"):
        status = path.lstat()
        if stat.S_ISREG(status.st_mode):
            name, may_run = path.relative_to(root).as_posix(), bool(status.st_mode & stat.S_IXUSR)
            source = BlobSource(partial(open_regular, path), status.st_size, "output")
            found.append((name, source, may_run))
    return sorted(found, key=lambda each: each[0])


def _source(path: Path, kind: str) -> BlobSource:
    with open_regular(path) as file:
        return BlobSource(partial(open_regular, path), os.fstat(file.fileno()).st_size, kind)
