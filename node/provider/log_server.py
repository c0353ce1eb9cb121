"""Logs of running jobs, from provider to requester, as they grow.

Spec: specs/execution.md#log-protocol. The requester sends the lease id and an offset; the provider
answers with the bytes from there on until the execution is over. Only the requester may ask.
"""

import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, Protocol

import trio

from node.data.disk import full_disk_as_storage_full
from protocol.values.errors import PeerUnreachable, RuleBroken, Stale
from protocol.values.ids import LeaseId, PeerId

LOG: Final = logging.getLogger(__name__)
PROTOCOL: Final = "/mutirao/log/1"
REQUEST_BYTES: Final = 32 + 8
CHUNK_BYTES: Final = 64 * 1024
POLL_S: Final = 0.05
RETRY_S: Final = 1.0

LogOf = Callable[[LeaseId], tuple[PeerId, Path, bool] | None]
"""Tells who may read a lease's log, where it grows and whether it still may; None if unknown."""


class Stream(Protocol):
    """What we need of node.network.streams.ByteStream; all but reset may raise PeerUnreachable."""

    async def read_exactly(self, size: int, /) -> bytes: ...

    async def wait_some(self, size_max: int, /) -> bytes: ...

    async def write(self, data: bytes, /) -> None: ...

    async def close(self) -> None: ...

    async def reset(self) -> None: ...


class LogServer:
    """Serves the logs of our executions: each to one stream, the newest that asks for it.

    So a requester may come again when its connection broke, and yet not pile up streams here.
    """

    def __init__(self, log_of: LogOf) -> None:
        self._log_of = log_of
        self._serving: dict[LeaseId, trio.CancelScope] = {}

    async def serve(self, peer: PeerId, stream: Stream) -> None:
        """Answer one request, until the execution is over.

        RuleBroken if the log is another peer's, Stale if we know of no such log (any more).
        """
        request = await stream.read_exactly(REQUEST_BYTES)
        lease_id, offset = LeaseId(request[:32]), int.from_bytes(request[32:])
        found = self._log_of(lease_id)
        if found is None:
            raise Stale(f"there is no log of lease {lease_id.hex()[:12]}")
        if found[0] != peer:
            raise RuleBroken(peer, "asks for the log of a lease that is not its own")
        earlier = self._serving.get(lease_id)
        if earlier is not None:
            earlier.cancel()
        with trio.CancelScope() as scope:
            self._serving[lease_id] = scope
            try:
                await self._send(lease_id, offset, stream)
            finally:
                if self._serving.get(lease_id) is scope:
                    del self._serving[lease_id]
        if scope.cancelled_caught:
            await stream.reset()

    async def _send(self, lease_id: LeaseId, offset: int, stream: Stream) -> None:
        while (found := self._log_of(lease_id)) is not None:
            _, path, grows = found
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
    open_stream: Callable[[], Awaitable[Stream]], lease_id: LeaseId, path: Path, size_max: int
) -> None:
    """Append a lease's log to a file as it grows; return when it is complete, or cancelled.

    What a provider sends beyond `size_max` bytes is not kept. StorageFull if the disk is full.
    """
    while True:
        try:
            stream = await open_stream()
            try:
                await _copy(stream, lease_id, path, size_max)
            finally:
                await stream.reset()
        except PeerUnreachable as error:
            LOG.debug("the log of lease %s broke off: %s", lease_id.hex()[:12], error)
            await trio.sleep(RETRY_S)
        else:
            return


async def _copy(stream: Stream, lease_id: LeaseId, path: Path, size_max: int) -> None:
    size = await trio.to_thread.run_sync(_size_of, path)
    await stream.write(lease_id + size.to_bytes(8))
    while chunk := await stream.wait_some(CHUNK_BYTES):
        size += len(chunk)
        if size > size_max:
            LOG.warning("the log of lease %s is longer than allowed", lease_id.hex()[:12])
            return
        await trio.to_thread.run_sync(_append, path, chunk)


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
    with full_disk_as_storage_full(path.parent), path.open("ab") as file:
        file.write(chunk)
