"""Serves the logs of running executions to their requesters, as they grow.

Spec: specs/execution.md#log-protocol. Only the lease's requester may ask.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import trio

from node.data.log_protocol import CHUNK_BYTES, REQUEST_BYTES, LogStream, parse_request
from protocol.values.errors import RuleBroken, Stale
from protocol.values.ids import LeaseId, PeerId

POLL_S: Final = 0.05

LogOf = Callable[[LeaseId], tuple[PeerId, Path, bool] | None]
"""Returns a log's reader, its path and whether it may still grow; None if unknown."""


class LogServer:
    """Serves the logs of our executions: each to one stream, the newest that requests it.

    A requester can reconnect after a broken connection, but cannot accumulate streams here.
    """

    def __init__(self, log_of: LogOf) -> None:
        self._log_of = log_of
        self._serving: dict[LeaseId, trio.CancelScope] = {}

    async def serve(self, peer: PeerId, stream: LogStream) -> None:
        """Serve one request until the execution ends.

        RuleBroken if the log is another peer's, Stale if there is no such log (any more).
        """
        lease_id, offset = parse_request(await stream.read_exactly(REQUEST_BYTES))
        found = self._log_of(lease_id)
        if found is None:
            raise Stale(f"no log of lease {lease_id.hex()[:12]}")
        if found[0] != peer:
            raise RuleBroken(peer, "requests the log of another requester's lease")
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

    async def _send(self, lease_id: LeaseId, offset: int, stream: LogStream) -> None:
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


def _read_at(path: Path, offset: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(min(offset, os.fstat(file.fileno()).st_size))
            return file.read(CHUNK_BYTES)
    except FileNotFoundError:  # Nothing is written yet.
        return b""
