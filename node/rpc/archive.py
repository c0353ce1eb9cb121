"""A job's outputs as one tar, generated while it is sent.

A file that is too short on the disk breaks the archive, which its reader notices.
Spec: specs/rpc.md#routes.
"""

import tarfile
from collections.abc import AsyncGenerator, Generator, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import BinaryIO, Final

import trio

from node.data.pack_writer import PackEntry, header_of
from node.rpc.service import StoredOutput
from protocol.values.errors import BlobUnavailable

CHUNK_BYTES: Final = 2**18


async def tar_of(files: Sequence[StoredOutput]) -> AsyncGenerator[bytes, None]:
    """Yield the archive in large pieces; BlobUnavailable if a file is missing."""
    async for piece in _in_thread(_together(_parts(files))):
        yield piece


async def bytes_of(output: StoredOutput) -> AsyncGenerator[bytes, None]:
    """Yield the bytes of one file; BlobUnavailable if it is missing."""
    async for piece in _in_thread(_content(output)):
        yield piece


async def _in_thread(pieces: Generator[bytes, None, None]) -> AsyncGenerator[bytes, None]:
    """Yield what a generator yields that blocks."""
    try:
        while (piece := await trio.to_thread.run_sync(next, pieces, None)) is not None:
            yield piece
    finally:
        pieces.close()


def _together(parts: Iterator[bytes]) -> Generator[bytes, None, None]:
    """Yield small parts as few large ones."""
    waiting = bytearray()
    for part in parts:
        waiting += part
        if len(waiting) >= CHUNK_BYTES:
            yield bytes(waiting)
            waiting.clear()
    yield bytes(waiting)


def _parts(files: Sequence[StoredOutput]) -> Iterator[bytes]:
    for place, outputs in groupby(files, key=lambda each: each.place):
        with _opened(place) as file:
            for output in outputs:
                view = output.view
                yield header_of(PackEntry(view.path, "file", view.size, view.executable))
                yield from _read(file, output)
                yield bytes(-view.size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _content(output: StoredOutput) -> Generator[bytes, None, None]:
    with _opened(output.place) as file:
        yield from _read(file, output)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise BlobUnavailable(f"cannot read the file: {error.strerror}") from None


def _read(file: BinaryIO, output: StoredOutput) -> Iterator[bytes]:
    file.seek(output.offset)
    left = output.view.size
    while left and (data := file.read(min(CHUNK_BYTES, left))):
        left -= len(data)
        yield data
