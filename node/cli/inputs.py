"""A job's inputs: turns paths of this machine into blobs of the node.

PATH is a file, seen by the job as /in/<its name>, or a folder, seen as /in/<its name>/...;
PATH:NAME gives another name. A folder becomes one blob, a pack.
Spec: specs/inputs.md.
"""

import hashlib
import os
import posixpath
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Final

from node.cli.connection import Connection
from node.cli.draft import Draft, Uploaded
from node.cli.excludes import excludes_of
from node.cli.failure import CliError
from node.cli.folders import FolderScan, scan_folder
from node.cli.output import bytes_of
from node.cli.progress import LiveLine, ProgressDisplay
from node.data.pack_writer import pack_chunks, pack_size
from protocol.values.errors import InvalidRequest

INPUTS_MAX: Final = 256
CHUNK_BYTES: Final = 2**18
LINKED_BYTES_MIN: Final = 64 * 2**20
"""A smaller file is copied: nobody waits long for that, and it may be changed at once."""
HASHED_S: Final = 3600.0
"""How long the node may take to hash a file."""
IN: Final = "/in"


@dataclass(frozen=True, slots=True)
class Found:
    """A file or folder of this machine, and its path under /in."""

    path: str
    place: Path
    scan: FolderScan | None = None
    """The content of a folder."""
    is_named: bool = False
    """Whether the user gave the path under /in."""


def find_inputs(draft: Draft, folder: Path) -> tuple[tuple[Found, ...], Draft]:
    """Return what the draft's inputs name, relative to the folder, sorted by path.

    The draft then has its working folder: that of its only folder without a name, if none is given.
    Raises CliError if anything is not there or cannot be sent.
    """
    found = sorted((_find(text, draft, folder) for text in draft.inputs), key=lambda f: f.path)
    if len(found) > INPUTS_MAX:
        raise CliError(
            "invalid-request", f"{len(found)} inputs, and a job may have {INPUTS_MAX}",
            "give a folder: it counts as one",
        )  # fmt: skip
    if draft.workdir is not None:
        _require_workdir(draft.workdir, found)
        return tuple(found), draft
    unnamed = [f"{IN}/{each.path}" for each in found if each.scan and not each.is_named]
    return tuple(found), replace(draft, workdir=unnamed[0] if len(unnamed) == 1 else None)


def upload_inputs(
    node: Connection, found: tuple[Found, ...], progress: ProgressDisplay
) -> tuple[Uploaded, ...]:
    """Upload the inputs to the node and return them as blobs."""
    uploaded = []
    try:
        for each in found:
            if each.scan is not None:
                progress.note(f"input {each.path}: {'; '.join(each.scan.lines())}")
            uploaded.append(_upload(node, each, progress))
    finally:
        progress.end()
    return tuple(uploaded)


def _find(text: str, draft: Draft, folder: Path) -> Found:
    place, name = _split(text, folder)
    path = name.rstrip("/") or place.resolve().name
    if place.exists():
        _require_name(path, text)
    if place.is_dir():
        excludes = excludes_of(place, draft.exclude, defaults=draft.default_excludes is not False)
        return Found(path, place, scan_folder(place, excludes), is_named=bool(name))
    if place.is_file():
        return Found(path, place)
    if place.exists():
        raise CliError("invalid-request", f"input {text}: it is neither a file nor a folder")
    hint = "give PATH, or PATH:NAME to rename; it is relative to the current folder"
    raise CliError("invalid-request", f"input {text}: there is no such file or folder", hint)


def _split(text: str, folder: Path) -> tuple[Path, str]:
    """Return the place, and the name that the user gave, if any."""
    before, colon, name = text.rpartition(":")
    # If a file with a colon in its name exists, it is used.
    if colon and before and name and not (folder / text).exists():
        return folder / before, name
    return folder / text, ""


def _require_name(path: str, text: str) -> None:
    """Raise CliError unless a path can be one below /in: before anything is sent."""
    from protocol.wire.job import is_safe_path

    try:
        path.encode()
    except UnicodeEncodeError:
        path = ""
    if not is_safe_path(path):
        why = f"input {ascii(text)[1:-1]}: it has no name that is a path below {IN}"
        raise CliError("invalid-request", why, "give one: PATH:NAME")


def _require_workdir(workdir: str, found: Sequence[Found]) -> None:
    """Raise CliError if a folder below /in is none of the job's; the image has the others."""
    inner = posixpath.normpath(workdir).removeprefix(f"{IN}/")
    if not workdir.startswith(f"{IN}/") or any(_has_folder(each, inner) for each in found):
        return
    raise CliError(
        "invalid-request", f"workdir {workdir}: none of the inputs has this folder",
        "give the folder with --input (`inputs` in a job file), or another --workdir",
    )  # fmt: skip


def _has_folder(found: Found, inner: str) -> bool:
    """Return whether an input is this folder below /in, or has it."""
    if f"{found.path}/".startswith(f"{inner}/"):
        return found.scan is not None or found.path != inner
    entries = found.scan.entries if found.scan else ()
    return any(each.kind != "file" and f"{found.path}/{each.path}" == inner for each in entries)


def _upload(node: Connection, found: Found, progress: ProgressDisplay) -> Uploaded:
    try:
        if found.scan is None:
            return _upload_file(node, found, progress)
        entries = found.scan.entries
        size = pack_size(entries)
        chunks = _shown(pack_chunks(entries, found.place), size, found, progress)
        view = _sent(node, found, chunks, size)
    except InvalidRequest as error:
        raise CliError("invalid-request", f"input {found.path}: {error}") from None
    except OSError as error:
        where = error.filename or found.place
        detail = f"input {found.path}: cannot read {where}: {error.strerror}"
        raise CliError("invalid-request", detail) from None
    return Uploaded(found.path, view["digest"], view["size"], executable=False, pack=True)


def _upload_file(node: Connection, found: Found, progress: ProgressDisplay) -> Uploaded:
    with found.place.open("rb") as file:
        status = os.fstat(file.fileno())
        view, size = _linked(node, found.place, status), status.st_size
        if view is not None:
            where = "read where it is: leave it unchanged until the provider has it"
            progress.note(f"input {found.path}: {size / 2**20:,.1f} MiB, {where}")
        else:
            view = _sent(node, found, _shown(_chunks(file, size), size, found, progress), size)
    is_executable = bool(status.st_mode & stat.S_IXUSR)
    return Uploaded(found.path, view["digest"], view["size"], is_executable)


def _sent(node: Connection, found: Found, chunks: Iterable[bytes], size: int) -> dict[str, Any]:
    """Upload bytes, and compare what the node received with what was sent."""
    digest = hashlib.sha256()
    view: dict[str, Any] = node.upload("/blobs", _hashed(chunks, digest), size)
    if view["digest"] != digest.hexdigest():
        raise CliError("failure", f"input {found.path}: the node received other bytes; try again")
    return view


def _linked(node: Connection, place: Path, status: os.stat_result) -> dict[str, Any] | None:
    """Let the node use a large file where it lies; None if it is small, or the node cannot."""
    if status.st_size < LINKED_BYTES_MIN:
        return None
    request = {
        "path": str(place.resolve()), "device": status.st_dev, "inode": status.st_ino,
        "size": status.st_size, "mtime_ns": status.st_mtime_ns, "ctime_ns": status.st_ctime_ns,
    }  # fmt: skip
    try:
        view: dict[str, Any] = node.post("/blobs/link", request, timeout_s=HASHED_S)
    except CliError as error:
        # It may not read the file, sees another one there, or is too old to know how.
        if error.code in {"invalid-request", "not-found"}:
            return None
        raise
    return view


def _shown(
    chunks: Iterable[bytes], size: int, found: Found, progress: ProgressDisplay
) -> Iterator[bytes]:
    """Yield the chunks, and show on a terminal how many were sent."""
    done = 0
    for chunk in chunks:
        if isinstance(progress, LiveLine):
            percent = 100 * done // max(1, size)
            progress.update(f"sending input {found.path}: {percent} % of {bytes_of(size)}")
        yield chunk
        done += len(chunk)


def _chunks(file: BinaryIO, size: int) -> Iterator[bytes]:
    left = size
    while left:
        chunk = file.read(min(CHUNK_BYTES, left))
        if not chunk:
            raise InvalidRequest("it was truncated while it was read; try again")
        left -= len(chunk)
        yield chunk


def _hashed(chunks: Iterable[bytes], digest: Any) -> Iterator[bytes]:
    for chunk in chunks:
        digest.update(chunk)
        yield chunk
