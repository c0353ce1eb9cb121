"""The bytes of a bulk connection: requests for ranges of a blob, and their answers.

Spec: specs/data.md#bulk-transfer.
"""

from dataclasses import dataclass
from typing import Final, Protocol

from node.data.frames import (
    LENGTH_BYTES,
    MESSAGE_MAX,
    SIZE_MAX,
    Reply,
    decode_map,
    decode_reply,
    encode_reply,
)
from protocol.values.errors import MalformedMessage, PeerUnreachable, RuleBroken
from protocol.values.ids import Digest, PeerId
from protocol.wire.codec import pack

BLOCK: Final = 1024 * 1024
"""Bytes to receive, send, read and write at a time."""
RANGE_MAX: Final = 64 * 1024 * 1024


class RangeConnection(Protocol):
    """A bulk connection; its methods block, and raise PeerUnreachable when the peer is lost."""

    @property
    def peer(self) -> PeerId:
        """Return the peer at the other end."""
        ...

    def fill(self, target: memoryview, /) -> None:
        """Receive as many bytes as the target has, at most BLOCK."""
        ...

    def fill_or_end(self, target: memoryview, /) -> bool:
        """As `fill`; return False if the connection had ended before."""
        ...

    def send(self, data: bytes | memoryview, /) -> None:
        """Send at most BLOCK bytes."""
        ...


@dataclass(frozen=True, slots=True)
class RangeRequest:
    """Requests the bytes of a blob from an offset on."""

    digest: Digest
    offset: int
    length: int


def encode_range(request: RangeRequest) -> bytes:
    """Return the one encoding of a request."""
    return pack({0: 3, 1: request.digest, 2: request.offset, 3: request.length})


def decode_range(peer: PeerId, data: bytes) -> RangeRequest:
    """Return the request in a frame from `peer`; MalformedMessage if it is not one."""
    match decode_map(peer, data):
        case {0: 3, 1: bytes(digest), 2: int(offset), 3: int(length), **rest} if (
            len(digest) == 32 and not rest and 0 <= offset <= SIZE_MAX and 1 <= length <= RANGE_MAX
        ):
            return RangeRequest(Digest(digest), offset, length)
    raise MalformedMessage(peer, "this is not a request for a range of a blob")


def send_request(connection: RangeConnection, request: RangeRequest) -> None:
    """Send a request."""
    _send(connection, encode_range(request))


def receive_request(connection: RangeConnection) -> RangeRequest | None:
    """Return the next request, None if the peer has ended the connection."""
    frame = _receive(connection)
    return None if frame is None else decode_range(connection.peer, frame)


def send_reply(connection: RangeConnection, answer: Reply) -> None:
    """Send an answer."""
    _send(connection, encode_reply(answer))


def receive_reply(connection: RangeConnection) -> Reply:
    """Return the next answer; PeerUnreachable if the peer has ended the connection."""
    frame = _receive(connection)
    if frame is None:
        raise PeerUnreachable(f"{connection.peer} ended the bulk connection")
    return decode_reply(connection.peer, frame)


def _send(connection: RangeConnection, frame: bytes) -> None:
    connection.send(len(frame).to_bytes(LENGTH_BYTES) + frame)


def _receive(connection: RangeConnection) -> bytes | None:
    length = bytearray(LENGTH_BYTES)
    if not connection.fill_or_end(memoryview(length)):
        return None
    size = int.from_bytes(length)
    if not 0 < size <= MESSAGE_MAX:
        raise RuleBroken(connection.peer, f"a frame of {size} bytes on a bulk connection")
    frame = bytearray(size)
    connection.fill(memoryview(frame))
    return bytes(frame)
