"""Logs of running jobs, from provider to requester, as they grow.

Spec: specs/execution.md#log-protocol. The requester sends the lease id and an offset; the provider
answers with the bytes from there on until the execution is over. Only the requester may ask.
"""

import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import trio

from node.network.streams import ByteStream
from protocol.values.errors import PeerUnreachable, RuleBroken
from protocol.values.ids import LeaseId, PeerId

LOG: Final = logging.getLogger(__name__)
PROTOCOL: Final = "/mutirao/log/1"
REQUEST_BYTES: Final = 32 + 8
CHUNK_BYTES: Final = 64 * 1024
POLL_S: Final = 0.05
RETRY_S: Final = 1.0

LogOf = Callable[[LeaseId, PeerId], tuple[Path, bool] | None]


async def serve_log(log_of: LogOf, peer: PeerId, stream: ByteStream) -> None:
    """Answer one request for a log; raise RuleBroken if it is not the peer's to read."""
    request = await stream.read_exactly(REQUEST_BYTES)
    lease_id, offset = LeaseId(request[:32]), int.from_bytes(request[32:])
    if log_of(lease_id, peer) is None:
        raise RuleBroken(peer, "asks for the log of a lease that is not its own")
    while (found := log_of(lease_id, peer)) is not None:
        path, grows = found
        chunk = await trio.to_thread.run_sync(_read_at, path, offset)
        if chunk:
            await stream.write(chunk)
            offset += len(chunk)
        elif grows:
            await trio.sleep(POLL_S)
        else:
            break
    await stream.close()


async def follow_log(
    open_stream: Callable[[], Awaitable[ByteStream]], lease_id: LeaseId, path: Path
) -> None:
    """Append a lease's log to a file as it grows; return when it is complete, or cancelled."""
    while True:
        try:
            stream = await open_stream()
            offset = await trio.to_thread.run_sync(_size_of, path)
            await stream.write(lease_id + offset.to_bytes(8))
            while chunk := await stream.wait_some(CHUNK_BYTES):
                await trio.to_thread.run_sync(_append, path, chunk)
            await stream.close()
        except PeerUnreachable as error:
            LOG.debug("the log of lease %s broke off: %s", lease_id.hex()[:12], error)
            await trio.sleep(RETRY_S)
        else:
            return


def _read_at(path: Path, offset: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(min(offset, os.fstat(file.fileno()).st_size))
            return file.read(CHUNK_BYTES)
    except FileNotFoundError:  # Nothing was written yet.
        return b""


def _size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _append(path: Path, chunk: bytes) -> None:
    with path.open("ab") as file:
        file.write(chunk)
