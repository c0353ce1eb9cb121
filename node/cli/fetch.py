"""Fetches a job's outputs: each file is checked against its digest before it gets its name.

Spec: specs/rpc.md#command-line.
"""

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from node.cli.connection import Connection, quoted
from node.cli.failure import CliError
from node.data.tar import TarReader
from protocol.values.errors import InvalidRequest

if TYPE_CHECKING:
    from node.data.disk import Readable

CHUNK_BYTES: Final = 2**18
NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def fetch_outputs(node: Connection, job: str, folder: Path) -> list[dict[str, Any]]:
    """Write a job's files below the folder and return what was fetched: path, size, digest.

    Raises CliError if a path would leave the folder, a digest differs or the disk refuses.
    """
    path = f"/jobs/{quoted(job)}"
    found: list[dict[str, Any]] = node.get(f"{path}/outputs")
    for output in found:
        _check_path(output["path"])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with closing(node.download(f"{path}/archive")) as chunks:
            _unpack(_Reader(chunks), folder, found)
    except OSError as error:
        where = error.filename or folder
        hint = "free some space or choose another folder; the node keeps the files"
        raise CliError("failure", f"cannot write {where}: {error.strerror}", hint) from None
    return found


def _check_path(path: str) -> None:
    from protocol.wire.job import is_safe_path

    if not is_safe_path(path):
        raise CliError("failure", f"an output of the job has an unsafe path: {path!r}")


def _unpack(archive: "Readable", folder: Path, outputs: list[dict[str, Any]]) -> None:
    reader = TarReader(archive)
    entries = iter(reader)
    entered: set[Path] = set()
    try:
        for output in outputs:
            entry = next(entries, None)
            if entry is None or (entry.kind, entry.size) != ("file", output["size"]):
                raise CliError("blob-unavailable", f"{output['path']}: the node did not send it")
            final = folder / output["path"]
            _enter(final.parent, folder, entered)
            _write(reader, final, output)
    except InvalidRequest as error:
        hint = "a file may be damaged on the node's disk: see its log"
        why = f"the node sent a broken archive: {error}"
        raise CliError("blob-unavailable", why, hint) from None


def _enter(place: Path, folder: Path, entered: set[Path]) -> None:
    """Create a folder of the outputs, unless it was entered before; it must not be outside."""
    if place in entered:
        return
    entered.add(place)
    place.mkdir(parents=True, exist_ok=True)
    if not place.resolve().is_relative_to(folder.resolve()):
        raise CliError("failure", f"{place} is a link that leads out of {folder}")


def _write(content: TarReader, final: Path, output: dict[str, Any]) -> None:
    """Write one file; it gets its name when its digest is verified."""
    partial = f"{final.parent}/.{secrets.token_hex(8)}.partial"
    mode = 0o777 if output["executable"] else 0o666  # Less what the user's umask takes.
    handle = os.open(partial, NEW_FILE, mode)
    with ExitStack() as undo:
        undo.callback(os.unlink, partial)
        _copy(content, handle, output)
        os.replace(partial, final)  # noqa: PTH105 - as text, for many files.
        undo.pop_all()


def _copy(content: TarReader, handle: int, output: dict[str, Any]) -> None:
    """Write the bytes of a file, and close it; CliError if they are others than listed."""
    digest = hashlib.sha256()
    with os.fdopen(handle, "wb") as file:
        while chunk := content.read(CHUNK_BYTES):
            digest.update(chunk)
            file.write(chunk)
    if digest.hexdigest() != output["digest"]:
        why = f"{output['path']}: its bytes do not match its digest"
        raise CliError("blob-unavailable", why)


class _Reader:
    """Chunks as a file that is read from front to back."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, none at the end."""
        while not self._rest and (chunk := next(self._chunks, None)) is not None:
            self._rest = memoryview(chunk)
        data, self._rest = self._rest[:size], self._rest[size:]
        return bytes(data)
