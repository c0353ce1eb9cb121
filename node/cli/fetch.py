"""Fetches a job's outputs: each file is checked against its digest before it gets its name.

Spec: specs/rpc.md#command-line.
"""

import hashlib
import secrets
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import IO, Any, Final

from node.cli.connection import Connection, quoted
from node.cli.failure import CliError

CHUNK_BYTES: Final = 2**18


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


def _unpack(archive: Any, folder: Path, outputs: list[dict[str, Any]]) -> None:
    import tarfile  # The import is slow, and only this function needs it.

    entered: set[Path] = set()
    try:
        with tarfile.open(fileobj=archive, mode="r|") as members:
            for output in outputs:
                final = folder / output["path"]
                _enter(final.parent, folder, entered)
                _write(_content_of(members, output), final, output)
    except tarfile.TarError as error:
        hint = "a file may be damaged on the node's disk: see its log"
        why = f"the node sent a broken archive: {error}"
        raise CliError("blob-unavailable", why, hint) from None


def _content_of(members: Any, output: dict[str, Any]) -> IO[bytes]:
    """Return the next file of an archive, which must be this output."""
    member = members.next()
    content: IO[bytes] | None = members.extractfile(member) if member else None
    if content is None:
        raise CliError("blob-unavailable", f"{output['path']}: the node did not send it")
    return content


def _enter(place: Path, folder: Path, entered: set[Path]) -> None:
    """Create a folder of the outputs, unless it was entered before; it must not be outside."""
    if place in entered:
        return
    entered.add(place)
    place.mkdir(parents=True, exist_ok=True)
    if not place.resolve().is_relative_to(folder.resolve()):
        raise CliError("failure", f"{place} is a link that leads out of {folder}")


def _write(content: IO[bytes], final: Path, output: dict[str, Any]) -> None:
    partial = final.with_name(f".{secrets.token_hex(8)}.partial")
    try:
        digest = hashlib.sha256()
        with partial.open("xb") as file:
            while chunk := content.read(CHUNK_BYTES):
                digest.update(chunk)
                file.write(chunk)
        if digest.hexdigest() != output["digest"]:
            why = f"{output['path']}: its bytes do not match its digest"
            raise CliError("blob-unavailable", why)
        if output["executable"]:
            partial.chmod(partial.stat().st_mode | 0o100)
        partial.replace(final)
    finally:
        partial.unlink(missing_ok=True)


class _Reader:
    """Chunks as a file that is read from front to back."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = bytearray()

    def read(self, size: int) -> bytes:
        while len(self._rest) < size and (chunk := next(self._chunks, b"")):
            self._rest += chunk
        data = bytes(self._rest[:size])
        del self._rest[:size]
        return data
