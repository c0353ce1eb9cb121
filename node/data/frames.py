"""The bytes of the blob protocol: frames, two requests, one answer.

A frame is a length of four bytes, big endian, followed by that many bytes. Requests and answers are
canonical msgpack maps with integer keys; hashes and chunks are raw bytes.

Spec: specs/data.md#wire.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Protocol

import trio

from protocol.values.errors import MalformedMessage, PeerUnreachable, RuleBroken
from protocol.values.ids import Digest, PeerId
from protocol.wire.codec import pack, unpack
from protocol.wire.job import BLOB_SIZE_MAX

PROTOCOL: Final = "/mutirao/blob/1"
CHUNK: Final = 1024 * 1024
"""Bytes of every chunk of a blob except the last."""
HASHES_PER_FRAME: Final = 256
"""Hashes per frame of the chunk list: the holder reads at most 256 MiB between two frames."""
CHUNKS_PER_REQUEST_MAX: Final = 64
MESSAGE_MAX: Final = 128
"""Maximum bytes of a request or an answer."""
SIZE_MAX: Final = BLOB_SIZE_MAX
LENGTH_BYTES: Final = 4
BUFFER_BYTES: Final = 64 * 1024


class FrameStream(Protocol):
    """Bytes to and from one peer; every method raises PeerUnreachable when the peer is lost."""

    async def read_exactly(self, n: int, /) -> bytes:
        """Return exactly `n` bytes; PeerUnreachable if the stream ends before."""
        ...

    async def read_some(self, most: int, /) -> bytes:
        """Return 1 to `most` bytes, or none at the end of the stream."""
        ...

    async def write(self, data: bytes, /) -> None:
        """Send the bytes."""
        ...

    async def close(self) -> None:
        """Say that no more will be written."""
        ...

    async def reset(self) -> None:
        """Break the stream off, both ways."""
        ...


class Buffered:
    """A stream that combines small frames: each read or write of a stream has a cost.

    Written bytes are sent before a wait for the peer, at the end, or when enough are buffered.
    """

    def __init__(self, stream: FrameStream) -> None:
        """Take over a stream, with its unread bytes."""
        self._stream = stream
        self._unread = bytearray()
        self._unsent = bytearray()

    async def read_exactly(self, n: int, /) -> bytes:
        """Return exactly `n` bytes; PeerUnreachable if the stream ends before."""
        while len(self._unread) < n:
            before = len(self._unread)
            await self._read(n - before)
            if len(self._unread) == before:
                raise PeerUnreachable("the stream ended too early")
        return self._take(n)

    async def read_some(self, most: int, /) -> bytes:
        """Return 1 to `most` bytes, or none at the end of the stream."""
        if not self._unread:
            await self._read(most)
        return self._take(most)

    async def write(self, data: bytes, /) -> None:
        """Send the bytes later, with others."""
        self._unsent += data
        if len(self._unsent) >= BUFFER_BYTES:
            await self._flush()

    async def close(self) -> None:
        """Say that no more will be written."""
        await self._flush()
        await self._stream.close()

    async def reset(self) -> None:
        """Break the stream off, both ways."""
        await self._stream.reset()

    async def _read(self, wanted: int) -> None:
        await self._flush()
        self._unread += await self._stream.read_some(max(wanted, BUFFER_BYTES))

    async def _flush(self) -> None:
        if self._unsent:
            data, self._unsent = bytes(self._unsent), bytearray()
            await self._stream.write(data)

    def _take(self, most: int) -> bytes:
        data = bytes(self._unread[:most])
        del self._unread[:most]
        return data


class ReplyStatus(IntEnum):
    """The status of a holder's answer."""

    HERE = 0
    ABSENT = 1
    BUSY = 2


@dataclass(frozen=True, slots=True)
class ListRequest:
    """Requests a blob's size and the SHA-256 of each of its chunks."""

    digest: Digest


@dataclass(frozen=True, slots=True)
class ChunkRequest:
    """Requests `count` chunks of a blob, from number `first` on."""

    digest: Digest
    first: int
    count: int

    @property
    def end(self) -> int:
        """Return the number after the last chunk."""
        return self.first + self.count


@dataclass(frozen=True, slots=True)
class Reply:
    """Precedes the requested data; `size` is the blob's in bytes if it is HERE.

    Otherwise it is 0, or 1 with ABSENT if the blob was a file that has changed.
    """

    status: ReplyStatus
    size: int = 0

    @property
    def why_not(self) -> str:
        """Return why the blob is not sent, "" if it is."""
        match self.status, self.size:
            case ReplyStatus.HERE, _:
                return ""
            case ReplyStatus.ABSENT, 1:
                return "has it no more: the file has changed since the job was submitted"
            case ReplyStatus.ABSENT, _:
                return "does not have it"
            case _:
                return "is busy with other transfers"


ABSENT: Final = Reply(ReplyStatus.ABSENT)
CHANGED: Final = Reply(ReplyStatus.ABSENT, 1)


def chunk_count(size: int) -> int:
    """Return the number of chunks of a blob of `size` bytes; an empty blob has none."""
    return -(-size // CHUNK)


def encode_request(request: ListRequest | ChunkRequest) -> bytes:
    """Return the one encoding of a request."""
    match request:
        case ListRequest(digest):
            return pack({0: 1, 1: digest})
        case ChunkRequest(digest, first, count):
            return pack({0: 2, 1: digest, 2: first, 3: count})


def decode_request(peer: PeerId, data: bytes) -> ListRequest | ChunkRequest:
    """Return the request in a frame from `peer`; MalformedMessage if it is not one."""
    match decode_map(peer, data):
        case {0: 1, 1: bytes(digest), **rest} if len(digest) == 32 and not rest:
            return ListRequest(Digest(digest))
        case {0: 2, 1: bytes(digest), 2: int(first), 3: int(count), **rest} if (
            len(digest) == 32
            and not rest
            and 0 <= first <= chunk_count(SIZE_MAX)
            and 1 <= count <= CHUNKS_PER_REQUEST_MAX
        ):
            return ChunkRequest(Digest(digest), first, count)
    raise MalformedMessage(peer, "this is not a request for a blob")


def encode_reply(answer: Reply) -> bytes:
    """Return the one encoding of an answer."""
    return pack({0: int(answer.status), 1: answer.size})


def decode_reply(peer: PeerId, data: bytes) -> Reply:
    """Return the answer in a frame from `peer`; MalformedMessage if it is not one."""
    match decode_map(peer, data):
        case {0: int(status), 1: int(size), **rest} if (
            0 <= status < len(ReplyStatus) and not rest and 0 <= size <= SIZE_MAX
        ):
            return Reply(ReplyStatus(status), size)
    raise MalformedMessage(peer, "this is not an answer about a blob")


async def send_frame(stream: FrameStream, data: bytes) -> None:
    """Send one frame."""
    await stream.write(len(data).to_bytes(LENGTH_BYTES) + data)


async def read_frame(stream: FrameStream, peer: PeerId, limit: int) -> bytes:
    """Return the next frame; RuleBroken if it claims more than `limit` bytes."""
    length = await stream.read_exactly(LENGTH_BYTES)
    return await _read_body(stream, peer, length, limit)


async def read_frame_or_end(stream: FrameStream, peer: PeerId, limit: int) -> bytes | None:
    """Return the next frame, None if the stream ended properly before it."""
    length = await stream.read_some(LENGTH_BYTES)
    if not length:
        return None
    if len(length) < LENGTH_BYTES:
        length += await stream.read_exactly(LENGTH_BYTES - len(length))
    return await _read_body(stream, peer, length, limit)


@contextmanager
def patience(peer: PeerId, seconds: float) -> Iterator[None]:
    """Limit a wait for a peer; PeerUnreachable after the time-out."""
    try:
        with trio.fail_after(seconds):
            yield
    except trio.TooSlowError:
        raise PeerUnreachable(f"{peer} did not answer within {seconds:g} s") from None


async def _read_body(stream: FrameStream, peer: PeerId, length: bytes, limit: int) -> bytes:
    size = int.from_bytes(length)
    if size > limit:
        raise RuleBroken(peer, f"a frame of {size} bytes where {limit} are allowed")
    return await stream.read_exactly(size) if size else b""


def decode_map(peer: PeerId, data: bytes) -> dict[int, object]:
    """Decode a canonically encoded map with integer keys."""
    try:
        fields = unpack(data)
    except ValueError as error:
        raise MalformedMessage(peer, str(error)) from None
    if not isinstance(fields, dict) or any(type(v) not in {int, bytes} for v in fields.values()):
        raise MalformedMessage(peer, "this is not a map of integers and bytes")
    if list(fields) != list(range(len(fields))):
        raise MalformedMessage(peer, "this is not canonical")
    return fields
