"""Stores the log of an execution and its files in /out as blobs that a listing names.

Spec: specs/sandbox.md#outputs.
"""

import io
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from node.data.blobs import Blobs, BlobSource
from node.data.bundle import FILE_BYTES_MAX, FILES_MIN, BundleReader
from node.data.disk import open_regular
from node.data.output_manifest import LISTING_BYTES_MAX
from node.sandbox.driver import checkpoint_path, log_path, outputs_path
from protocol.values.errors import InvalidRequest
from protocol.values.ids import Digest
from protocol.wire.codec import encode
from protocol.wire.job import NO_LOG, BlobRef, FileRef, Outputs


@dataclass(frozen=True, slots=True)
class OutputFile:
    """A file of the job: its path below /out, and where it is."""

    name: str
    place: Path
    size: int
    executable: bool

    def source(self) -> BlobSource:
        """Return what a blob is made from."""
        return BlobSource(partial(open_regular, self.place), self.size, "output")


async def collect(blobs: Blobs, owner: str, folder: Path) -> BlobRef:
    """Store and pin log and outputs of a run folder; return the blob that lists them.

    InvalidRequest if a file cannot be read, StorageFull if there is no room: all or none is stored.
    """
    found, log = await trio.to_thread.run_sync(_sources_of, folder)
    small = [each for each in found if each.size <= FILE_BYTES_MAX]
    large = [each for each in found if each.size > FILE_BYTES_MAX]
    if len(small) < FILES_MIN:
        small, large = [], found
    reader = BundleReader([(each.place, each.size) for each in small])
    bundle = [BlobSource(lambda: reader, sum(each.size for each in small), "output")]
    sources = [log, *(bundle if small else ()), *(each.source() for each in large)]
    log_ref, *refs = await blobs.put_all(sources, owner)
    bundle_refs = tuple(refs[: len(refs) - len(large)])
    files = [*_listed(large, refs[len(bundle_refs) :]), *_bundled(small, reader.digests)]
    files.sort(key=lambda file: file.path)
    return await _store_listing(blobs, owner, Outputs(tuple(files), log_ref, bundle_refs))


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
            each for each in found if each.name == ended_at or each.name.startswith(f"{ended_at}/")
        ]
    refs = await blobs.put_all([each.source() for each in found], owner) if found else ()
    listing = await _store_listing(blobs, owner, Outputs(_listed(found, refs), NO_LOG))
    return listing, sum(ref.size for ref in refs)


def _listed(found: Sequence[OutputFile], refs: Sequence[BlobRef]) -> tuple[FileRef, ...]:
    return tuple(
        FileRef(each.name, ref, each.executable) for each, ref in zip(found, refs, strict=True)
    )


def _bundled(found: Sequence[OutputFile], digests: Sequence[Digest]) -> Iterator[FileRef]:
    for each, digest in zip(found, digests, strict=True):
        yield FileRef(each.name, BlobRef(digest, each.size), each.executable, bundled=True)


async def _store_listing(blobs: Blobs, owner: str, outputs: Outputs) -> BlobRef:
    data = await trio.to_thread.run_sync(encode, outputs)
    if len(data) > LISTING_BYTES_MAX:
        raise InvalidRequest(f"the names of {len(outputs.files)} outputs take more than 2 MiB")
    (listing,) = await blobs.put_all(
        [BlobSource(partial(io.BytesIO, data), len(data), "output")], owner
    )
    return listing


def _sources_of(folder: Path) -> tuple[list[OutputFile], BlobSource]:
    return _outputs_below(outputs_path(folder)), _source(log_path(folder), "log")


def _outputs_below(root: Path) -> list[OutputFile]:
    """Return all files, sorted by path; [] if there is no folder."""
    found: list[OutputFile] = []
    if root.is_dir():
        _look(str(root), "", found)
    return sorted(found, key=lambda each: each.name)


def _look(folder: str, inner: str, found: list[OutputFile]) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            name = f"{inner}{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                _look(entry.path, f"{name}/", found)
            elif entry.is_file(follow_symlinks=False):
                status = entry.stat(follow_symlinks=False)
                may_run = bool(status.st_mode & stat.S_IXUSR)
                found.append(OutputFile(name, Path(entry.path), status.st_size, may_run))


def _source(path: Path, kind: str) -> BlobSource:
    with open_regular(path) as file:
        return BlobSource(partial(open_regular, path), os.fstat(file.fileno()).st_size, kind)
