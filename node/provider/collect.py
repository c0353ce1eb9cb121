"""Stores the log of an execution and its files in /out as blobs that a listing names.

Spec: specs/sandbox.md#outputs.
"""

import io
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from node.data.blobs import Blobs, BlobSource
from node.data.bundle import BundleReader
from node.data.disk import Readable, open_regular
from node.data.output_manifest import LISTING_BYTES_MAX
from node.sandbox.driver import (
    BundledOutput,
    bundle_path,
    bundled_outputs,
    checkpoint_path,
    log_path,
    outputs_path,
)
from protocol.values.errors import InvalidRequest
from protocol.values.ids import Digest
from protocol.wire.codec import encode
from protocol.wire.job import NO_LOG, BlobRef, FileRef, Outputs


@dataclass(frozen=True, slots=True)
class OutputFile:
    """A file of the job: its path below /out, and the part of a file of ours that it is."""

    path: str
    place: Path
    size: int
    executable: bool
    offset: int | None = None
    """Where in that file it begins; None: it is all of it."""

    def source(self) -> BlobSource:
        """Return what a blob is made from; a file that the sandbox collected need not be copied.

        An executable one is: a blob has another mode, and it may be collected once more.
        """
        place = None if self.executable or self.offset is not None else self.place
        return BlobSource(partial(_open_part, self), self.size, "output", place)


async def collect(blobs: Blobs, owner: str, folder: Path) -> BlobRef:
    """Store and pin log and outputs of a run folder; return the blob that lists them.

    InvalidRequest if a file cannot be read, StorageFull if there is no room: all or none is stored.
    """
    log = await trio.to_thread.run_sync(_source, log_path(folder), "log")
    found = await trio.to_thread.run_sync(_outputs_below, outputs_path(folder))
    small = await trio.to_thread.run_sync(bundled_outputs, folder)
    reader = BundleReader(bundle_path(folder), [each.size for each in small])
    bundle = [BlobSource(lambda: reader, sum(each.size for each in small), "output")]
    sources = [log, *(each.source() for each in found), *(bundle if small else ())]
    log_ref, *refs = await blobs.put_all(sources, owner)
    files = [*_listed(found, refs[: len(found)]), *_bundled(small, reader.digests)]
    outputs = Outputs(_in_order(files), log_ref, tuple(refs[len(found) :]))
    return await _store_listing(blobs, owner, outputs)


async def collect_checkpoint(
    blobs: Blobs, owner: str, folder: Path, ended_at: str = ""
) -> tuple[BlobRef, int]:
    """Store and pin the copy of a checkpoint; return the blob that lists it, and its bytes.

    `ended_at` is its path below /out if the container has ended: then it is among the outputs.
    Errors as of `collect`.
    """
    if ended_at:
        found = await trio.to_thread.run_sync(_outputs_at, folder, ended_at)
    else:
        found = await trio.to_thread.run_sync(_outputs_below, checkpoint_path(folder))
    refs = await blobs.put_all([each.source() for each in found], owner) if found else ()
    files = _in_order(_listed(found, refs))
    listing = await _store_listing(blobs, owner, Outputs(files, NO_LOG))
    return listing, sum(ref.size for ref in refs)


def _listed(found: Sequence[OutputFile], refs: Sequence[BlobRef]) -> Iterator[FileRef]:
    for each, ref in zip(found, refs, strict=True):
        yield FileRef(each.path, ref, each.executable)


def _bundled(found: Sequence[BundledOutput], digests: Sequence[Digest]) -> Iterator[FileRef]:
    for each, digest in zip(found, digests, strict=True):
        yield FileRef(each.path, BlobRef(digest, each.size), each.executable, bundled=True)


def _in_order(files: Iterable[FileRef]) -> tuple[FileRef, ...]:
    """Return the files folder by folder, which is the order of the bundle."""
    return tuple(sorted(files, key=lambda file: file.path.split("/")))


async def _store_listing(blobs: Blobs, owner: str, outputs: Outputs) -> BlobRef:
    data = await trio.to_thread.run_sync(encode, outputs)
    if len(data) > LISTING_BYTES_MAX:
        raise InvalidRequest(f"the names of {len(outputs.files)} outputs take more than 2 MiB")
    (listing,) = await blobs.put_all(
        [BlobSource(partial(io.BytesIO, data), len(data), "output")], owner
    )
    return listing


def _outputs_at(folder: Path, path: str) -> list[OutputFile]:
    """Return the outputs that are this path or below it, wherever the sandbox left their bytes."""
    bundle = bundle_path(folder)
    found = [
        *_outputs_below(outputs_path(folder)),
        *(
            OutputFile(each.path, bundle, each.size, each.executable, each.offset)
            for each in bundled_outputs(folder)
        ),
    ]
    return [each for each in found if f"{each.path}/".startswith(f"{path}/")]


def _outputs_below(root: Path) -> list[OutputFile]:
    """Return all files; [] if there is no folder."""
    found: list[OutputFile] = []
    if root.is_dir():
        _look(str(root), "", found)
    return found


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


@contextmanager
def _open_part(file: OutputFile) -> Iterator[Readable]:
    with open_regular(file.place) as whole:
        if file.offset is None:
            yield whole
        else:
            whole.seek(file.offset)
            yield io.BytesIO(whole.read(file.size))
