"""A job's outputs as one tar, generated while it is sent.

Spec: specs/rpc.md#routes.
"""

import tarfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final

import trio

from node.rpc.job_views import OutputView
from protocol.values.errors import BlobUnavailable

CHUNK_BYTES: Final = 2**18


async def tar_of(files: Sequence[tuple[OutputView, Path]]) -> AsyncGenerator[bytes, None]:
    """Yield the archive in large pieces; BlobUnavailable if a file is missing."""
    waiting = bytearray()
    async with aclosing(_parts(files)) as parts:
        async for part in parts:
            waiting += part
            if len(waiting) >= CHUNK_BYTES:
                yield bytes(waiting)
                waiting.clear()
    yield bytes(waiting)


async def _parts(files: Sequence[tuple[OutputView, Path]]) -> AsyncGenerator[bytes, None]:
    for output, path in files:
        yield _header(output)
        async with await opened(path) as content:
            while chunk := await read(content):
                yield chunk
        yield bytes(-output.size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


async def opened(path: Path) -> Any:
    """Open a file of this node for reading; BlobUnavailable if that fails."""
    try:
        return await trio.open_file(path, "rb")
    except OSError as error:
        raise BlobUnavailable(f"cannot read the file: {error.strerror}") from None


async def read(content: Any) -> bytes:
    """Return the next bytes of an open file; BlobUnavailable if reading fails."""
    try:
        data: bytes = await content.read(CHUNK_BYTES)
    except OSError as error:
        raise BlobUnavailable(f"cannot read the file: {error.strerror}") from None
    return data


def _header(output: OutputView) -> bytes:
    entry = tarfile.TarInfo(output.path)
    entry.size = output.size
    entry.mode = 0o755 if output.executable else 0o644
    return entry.tobuf(tarfile.PAX_FORMAT)
