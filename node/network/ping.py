"""The round trip to a peer, by libp2p's ping: random bytes that come back.

The bytes cannot be known before they arrive, so a peer can answer late, but not early. Yamux has
pings of its own, which our side takes for answered by any answer.

Spec: specs/network.md#messages.
"""

import secrets
from typing import Final

import trio

from node.network.streams import ByteStream
from protocol.values.errors import PeerUnreachable

PROTOCOL: Final = "/ipfs/ping/1.0.0"
PING_BYTES: Final = 32
PINGS: Final = 3
"""So many in a row: the shortest is the least disturbed by what both machines do meanwhile."""


async def round_trip_us(stream: ByteStream) -> int:
    """Return the shortest of PINGS round trips, in microseconds, at least 1.

    Raises PeerUnreachable if the stream breaks, or the peer answers nonsense.
    """
    shortest_s = float("inf")
    for _ in range(PINGS):
        data = secrets.token_bytes(PING_BYTES)
        sent_s = trio.current_time()
        await stream.write(data)
        if await stream.read_exactly(PING_BYTES) != data:
            raise PeerUnreachable(f"{stream.peer} answers a ping with other bytes")
        shortest_s = min(shortest_s, trio.current_time() - sent_s)
    return max(1, round(shortest_s * 1_000_000))
