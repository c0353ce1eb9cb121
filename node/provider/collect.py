"""Stores the log of an execution and its files in /out as blobs that a listing names.

Spec: specs/sandbox.md#outputs.
"""

import io
import os
import stat
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import trio

from node.data.blobs import Blobs, BlobSource
from node.data.disk import open_regular
from node.data.output_manifest import LISTING_BYTES_MAX
from node.sandbox.driver import checkpoint_path, log_path, outputs_path
from protocol.values.errors import InvalidRequest
from protocol.wire.codec import encode
from protocol.wire.job import NO_LOG, BlobRef, FileRef, Outputs

Found = tuple[str, BlobSource, bool]
"""A file: its path, its content, and whether it is executable."""


async def collect(blobs: Blobs, owner: str, folder: Path) -> BlobRef:
    """Store and pin log and outputs of a run folder; return the blob that lists them.

    InvalidRequest if a file cannot be read, StorageFull if there is no room: all or none is stored.
    """
    found, log = await trio.to_thread.run_sync(_sources_of, folder)
    sources = [log, *(source for _, source, _ in found)]
    log_ref, *refs = await blobs.put_all(sources, owner)
    return await _store_listing(blobs, owner, Outputs(_listed(found, refs), log_ref))


async def collect_checkpoint(
    blobs: Blobs, owner: str, folder: Path, ended_at: str = ""
) -> tuple[BlobRef, int]:
    """Store and pin the copy of a checkpoint; return the blob that lists it, and its bytes.

    `ended_at` is its path below /out if the container has ended: then it is among the outputs.
    Errors as of `collect`.
    """
    root = outputs_path(folder) if ended_at else checkpoint_path(folder)
    found = await trio.to_thread.run_sync(_outputs_below, root)
    if ended_at:
        found = [
            each for each in found if each[0] == ended_at or each[0].startswith(f"{ended_at}/")
        ]
    refs = await blobs.put_all([source for _, source, _ in found], owner) if found else ()
    listing = await _store_listing(blobs, owner, Outputs(_listed(found, refs), NO_LOG))
    return listing, sum(ref.size for ref in refs)


def _listed(found: Sequence[Found], refs: Sequence[BlobRef]) -> tuple[FileRef, ...]:
    return tuple(
        FileRef(name, ref, may_run) for ref, (name, _, may_run) in zip(refs, found, strict=True)
    )


async def _store_listing(blobs: Blobs, owner: str, outputs: Outputs) -> BlobRef:
    data = await trio.to_thread.run_sync(encode, outputs)
    if len(data) > LISTING_BYTES_MAX:
        raise InvalidRequest(f"the names of {len(outputs.files)} outputs take more than 2 MiB")
    (listing,) = await blobs.put_all(
        [BlobSource(partial(io.BytesIO, data), len(data), "output")], owner
    )
    return listing


def _sources_of(folder: Path) -> tuple[list[Found], BlobSource]:
    return _outputs_below(outputs_path(folder)), _source(log_path(folder), "log")


def _outputs_below(root: Path) -> list[Found]:
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
