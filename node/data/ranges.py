"""The bytes of a bulk connection: requests for ranges of a blob, and their answers.

Spec: specs/data.md#bulk-transfer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from node.data.frames import (
    LENGTH_BYTES,
    MESSAGE_MAX,
    SIZE_MAX,
    Reply,
    ReplyStatus,
    decode_map,
    decode_reply,
    encode_reply,
)
from protocol.values.errors import MalformedMessage, PeerUnreachable, RuleBroken
from protocol.values.ids import Digest, PeerId, public_key_of
from protocol.wire.codec import pack

BLOCK: Final = 1024 * 1024
"""Bytes to receive, send, read and write at a time."""
RANGE_MAX: Final = 64 * 1024 * 1024
HOLDERS_TOLD_MAX: Final = 8


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


@dataclass(frozen=True, slots=True)
class HoldersRequest:
    """Requests the peers that may have a blob, too."""

    digest: Digest


def encode_range(request: RangeRequest) -> bytes:
    """Return the one encoding of a request."""
    return pack({0: 3, 1: request.digest, 2: request.offset, 3: request.length})


def encode_holders(request: HoldersRequest) -> bytes:
    """Return the one encoding of a request."""
    return pack({0: 4, 1: request.digest})


def decode_request(peer: PeerId, data: bytes) -> RangeRequest | HoldersRequest:
    """Return the request in a frame from `peer`; MalformedMessage if it is not one."""
    match decode_map(peer, data):
        case {0: 3, 1: bytes(digest), 2: int(offset), 3: int(length), **rest} if (
            len(digest) == 32 and not rest and 0 <= offset <= SIZE_MAX and 1 <= length <= RANGE_MAX
        ):
            return RangeRequest(Digest(digest), offset, length)
        case {0: 4, 1: bytes(digest), **rest} if len(digest) == 32 and not rest:
            return HoldersRequest(Digest(digest))
    raise MalformedMessage(peer, "this is no request on a bulk connection")


def ask_holders(connection: RangeConnection, digest: Digest) -> tuple[PeerId, ...]:
    """Return the peers that may have a blob, too, as the holder says."""
    _send(connection, encode_holders(HoldersRequest(digest)))
    count = receive_reply(connection).size
    if count > HOLDERS_TOLD_MAX:
        raise RuleBroken(connection.peer, f"it names {count} holders")
    found = []
    for _ in range(count):
        text = (_receive(connection) or b"").decode("ascii", "replace")
        try:
            public_key_of(PeerId(text))
        except ValueError:
            raise RuleBroken(connection.peer, "it names a holder that is no peer") from None
        found.append(PeerId(text))
    return tuple(found)


def tell_holders(connection: RangeConnection, holders: Sequence[PeerId]) -> None:
    """Answer a request for holders."""
    send_reply(connection, Reply(ReplyStatus.HERE, len(holders)))
    for holder in holders:
        _send(connection, holder.encode())


def send_request(connection: RangeConnection, request: RangeRequest) -> None:
    """Send a request."""
    _send(connection, encode_range(request))


def receive_request(connection: RangeConnection) -> RangeRequest | HoldersRequest | None:
    """Return the next request, None if the peer has ended the connection."""
    frame = _receive(connection)
    return None if frame is None else decode_request(connection.peer, frame)


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
