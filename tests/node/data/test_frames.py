"""The blob protocol has one encoding for each message, and refuses all others.

Spec: specs/data.md#wire.
"""

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.data.frames import (
    BUFFER_BYTES,
    Buffered,
    ChunkRequest,
    ListRequest,
    Reply,
    ReplyStatus,
    chunk_count,
    decode_reply,
    decode_request,
    encode_reply,
    encode_request,
)
from protocol.values.errors import MalformedMessage, PeerUnreachable
from protocol.values.ids import Digest, PeerId

PEER = PeerId("peer")
DIGEST = Digest(bytes(range(32)))
REQUESTS = {
    "820001" + "01c420" + DIGEST.hex(): ListRequest(DIGEST),
    "840002" + "01c420" + DIGEST.hex() + "0207" + "0340": ChunkRequest(DIGEST, 7, 64),
}
ANSWERS = {
    "82000001ce00100001": Reply(ReplyStatus.HERE, 2**20 + 1),
    "8200010100": Reply(ReplyStatus.ABSENT),
    "8200020100": Reply(ReplyStatus.BUSY),
}


@pytest.mark.parametrize("vector", REQUESTS)
def test_requests_have_these_bytes(vector: str) -> None:
    assert encode_request(REQUESTS[vector]).hex() == vector
    assert decode_request(PEER, bytes.fromhex(vector)) == REQUESTS[vector]


@pytest.mark.parametrize("vector", ANSWERS)
def test_answers_have_these_bytes(vector: str) -> None:
    assert encode_reply(ANSWERS[vector]).hex() == vector
    assert decode_reply(PEER, bytes.fromhex(vector)) == ANSWERS[vector]


BAD_REQUESTS = {
    "empty": b"",
    "no map": msgpack.packb([1, DIGEST]),
    "unknown kind": msgpack.packb({0: 3, 1: DIGEST}),
    "short digest": msgpack.packb({0: 1, 1: DIGEST[:31]}),
    "text digest": msgpack.packb({0: 1, 1: "d" * 32}),
    "more fields": msgpack.packb({0: 1, 1: DIGEST, 2: 0}),
    "wrong order": msgpack.packb({1: DIGEST, 0: 1}),
    "boolean": msgpack.packb({0: True, 1: DIGEST}),
    "float": msgpack.packb({0: 1.0, 1: DIGEST}),
    "no chunk": msgpack.packb({0: 2, 1: DIGEST, 2: 0, 3: 0}),
    "too many chunks": msgpack.packb({0: 2, 1: DIGEST, 2: 0, 3: 65}),
    "negative": msgpack.packb({0: 2, 1: DIGEST, 2: -1, 3: 1}),
    "long integer": bytes.fromhex("8200cc0101c420") + DIGEST,
    "trailing": encode_request(ListRequest(DIGEST)) + b"\0",
    "list as a key": bytes.fromhex("81900000"),
    "deep": b"\x91" * 128,
}


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_anything_else_is_malformed(name: str) -> None:
    with pytest.raises(MalformedMessage):
        decode_request(PEER, BAD_REQUESTS[name])
    with pytest.raises(MalformedMessage):
        decode_reply(PEER, BAD_REQUESTS[name])


@given(st.binary(max_size=128))
def test_strangers_bytes_are_a_message_or_malformed(data: bytes) -> None:
    for decode, encode in ((decode_request, encode_request), (decode_reply, encode_reply)):
        try:
            message = decode(PEER, data)
        except MalformedMessage:
            continue
        assert encode(message) == data


def test_chunks_are_counted() -> None:
    assert [chunk_count(size) for size in (0, 1, 2**20, 2**20 + 1)] == [0, 1, 1, 2]


class Recorded:
    """A stream that gives pieces and remembers what was written, or that it was read."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)
        self.done: list[bytes | str] = []

    async def read_some(self, most: int, /) -> bytes:
        self.done.append("read")
        return self.pieces.pop(0) if self.pieces else b""

    async def write(self, data: bytes, /) -> None:
        self.done.append(data)

    async def close(self) -> None:
        self.done.append("close")


async def test_small_frames_travel_together() -> None:
    peer = Recorded(b"abc", b"defghi", b"")
    stream = Buffered(peer)
    for data in (b"1", b"2"):
        await stream.write(data)
    assert peer.done == []
    assert await stream.read_exactly(2) == b"ab"
    assert await stream.read_exactly(3) == b"cde"
    assert await stream.read_some(3) == b"fgh"
    assert await stream.read_some(3) == b"i"
    assert peer.done == [b"12", "read", "read"]
    await stream.write(b"3")
    assert await stream.read_some(3) == b""
    with pytest.raises(PeerUnreachable, match="too early"):
        await stream.read_exactly(1)
    await stream.write(b"4")
    await stream.write(bytes(BUFFER_BYTES))
    await stream.write(b"5")
    await stream.close()
    much = b"4" + bytes(BUFFER_BYTES)
    assert peer.done[3:] == [b"3", "read", "read", much, b"5", "close"]
