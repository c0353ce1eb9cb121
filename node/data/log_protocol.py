"""How a requester asks a provider for the log of a lease: what both sides of the stream share.

Spec: specs/execution.md#log-protocol.
"""

from typing import Final, Protocol

from protocol.values.ids import LeaseId

PROTOCOL: Final = "/mutirao/log/1"
LEASE_BYTES: Final = 32
REQUEST_BYTES: Final = LEASE_BYTES + 8
CHUNK_BYTES: Final = 64 * 1024
"""What either side reads at a time."""


class LogStream(Protocol):
    """What we need of node.network.streams.ByteStream; all but reset may raise PeerUnreachable."""

    async def read_exactly(self, size: int, /) -> bytes: ...

    async def wait_some(self, size_max: int, /) -> bytes: ...

    async def write(self, data: bytes, /) -> None: ...

    async def close(self) -> None: ...

    async def reset(self) -> None: ...


def request_of(lease_id: LeaseId, offset: int) -> bytes:
    """Return the request for a lease's log from an offset on, as it is written to the stream."""
    return lease_id + offset.to_bytes(REQUEST_BYTES - LEASE_BYTES)


def parse_request(data: bytes) -> tuple[LeaseId, int]:
    """Return lease and offset of a request, which has REQUEST_BYTES."""
    return LeaseId(data[:LEASE_BYTES]), int.from_bytes(data[LEASE_BYTES:])
