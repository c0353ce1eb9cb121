"""Follows the log of a running job at its provider, and appends it to a file as it grows.

Spec: specs/execution.md#log-protocol. After a broken connection it resumes without losing a byte.
"""

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import trio

from node.data.disk import full_disk_as_storage_full
from node.data.log_protocol import CHUNK_BYTES, LogStream, request_of
from protocol.values.errors import PeerUnreachable
from protocol.values.ids import LeaseId

LOG: Final = logging.getLogger(__name__)
RETRY_S: Final = 1.0


async def follow_log(
    open_stream: Callable[[], Awaitable[LogStream]], lease_id: LeaseId, path: Path, size_max: int
) -> None:
    """Append a lease's log to a file as it grows; return when it is complete, or cancelled.

    What a provider sends beyond `size_max` bytes is discarded. StorageFull if the disk is full.
    """
    while True:
        try:
            stream = await open_stream()
            try:
                await _copy(stream, lease_id, path, size_max)
            finally:
                await stream.reset()
        except PeerUnreachable as error:
            LOG.debug("the log of lease %s ended early: %s", lease_id.hex()[:12], error)
            await trio.sleep(RETRY_S)
        else:
            return


async def _copy(stream: LogStream, lease_id: LeaseId, path: Path, size_max: int) -> None:
    size = await trio.to_thread.run_sync(_size_of, path)
    await stream.write(request_of(lease_id, size))
    while chunk := await stream.wait_some(CHUNK_BYTES):
        size += len(chunk)
        if size > size_max:
            LOG.warning("the log of lease %s is longer than allowed", lease_id.hex()[:12])
            return
        await trio.to_thread.run_sync(_append, path, chunk)


def _size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _append(path: Path, chunk: bytes) -> None:
    with full_disk_as_storage_full(path.parent), path.open("ab") as file:
        file.write(chunk)
