"""A job's inputs: turns paths of this machine into blobs of the node.

PATH is a file, seen by the job as /in/<its name>, or a folder, seen as /in/<its name>/...;
PATH:NAME gives another name.
Spec: specs/rpc.md#inputs.
"""

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from node.cli.connection import Connection
from node.cli.failure import CliError

FILES_MAX: Final = 256
CHUNK_BYTES: Final = 2**18


@dataclass(frozen=True, slots=True)
class Found:
    """A file of this machine, and its path under /in."""

    path: str
    file: Path


@dataclass(frozen=True, slots=True)
class Uploaded:
    """A blob that the node has, and its path under /in."""

    path: str
    digest: str
    size: int
    executable: bool = False


def find_inputs(given: tuple[str, ...], folder: Path) -> tuple[Found, ...]:
    """Return the files that PATH or PATH:NAME name, relative to the folder, sorted by path.

    Raises CliError if one is not there or there are too many.
    """
    found = sorted(
        (each for text in given for each in _expand(text, folder)), key=lambda each: each.path
    )
    if len(found) > FILES_MAX:
        raise CliError(
            "invalid-request", f"{len(found)} input files, and a job may have {FILES_MAX}",
            "pack them into an archive that the job unpacks",
        )  # fmt: skip
    return tuple(found)


def upload_inputs(
    node: Connection, found: tuple[Found, ...], tell: Callable[[str], None]
) -> tuple[Uploaded, ...]:
    """Upload the files to the node and return them as blobs; `tell` is called for each."""
    uploaded = []
    for each in found:
        tell(f"input {each.path}")
        uploaded.append(_upload(node, each))
    return tuple(uploaded)


def _expand(text: str, folder: Path) -> Iterator[Found]:
    path, name = _split(text, folder)
    if path.is_dir():
        files = [file for file in sorted(path.rglob("*")) if file.is_file()]
        if not files:
            raise CliError("invalid-request", f"input {text}: the folder has no files")
        for file in files:
            yield Found(f"{name}/{file.relative_to(path).as_posix()}", file)
    elif path.is_file():
        yield Found(name, path)
    else:
        hint = "give PATH, or PATH:NAME to rename; it is relative to the current folder"
        raise CliError("invalid-request", f"input {text}: there is no such file or folder", hint)


def _split(text: str, folder: Path) -> tuple[Path, str]:
    whole = folder / text
    before, colon, name = text.rpartition(":")
    # If a file with a colon in its name exists, it is used.
    if colon and before and name and not whole.exists():
        return folder / before, name
    return whole, whole.resolve().name


def _upload(node: Connection, found: Found) -> Uploaded:
    digest = hashlib.sha256()
    try:
        with found.file.open("rb") as file:
            status = os.fstat(file.fileno())
            size = status.st_size
            view: dict[str, Any] = node.upload("/blobs", _chunks(file, size, digest), size)
    except OSError as error:
        detail = f"input {found.path}: cannot read {found.file}: {error.strerror}"
        raise CliError("invalid-request", detail) from None
    if view["digest"] != digest.hexdigest():
        raise CliError("failure", f"input {found.path}: the node received other bytes; try again")
    return Uploaded(found.path, view["digest"], view["size"], bool(status.st_mode & stat.S_IXUSR))


def _chunks(file: BinaryIO, size: int, digest: Any) -> Iterator[bytes]:
    left = size
    while left:
        chunk = file.read(min(CHUNK_BYTES, left))
        if not chunk:
            raise CliError("invalid-request", "an input was truncated while it was read", "retry")
        left -= len(chunk)
        digest.update(chunk)
        yield chunk
