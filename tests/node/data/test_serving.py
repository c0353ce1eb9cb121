"""The holder answers what it has, bounds what a peer may take, and never lies.

Spec: specs/data.md#transfer.
"""

import hashlib
import os

import pytest
import trio
import trio.testing

from node.data.frames import (
    CHUNK,
    ChunkRequest,
    ListRequest,
    Reply,
    ReplyStatus,
    decode_reply,
    encode_request,
    read_frame,
    send_frame,
)
from node.data.serving import STREAMS_PER_PEER_MAX, BlobServer
from protocol.values.errors import MalformedMessage, PeerUnreachable, RuleBroken
from protocol.values.ids import PeerId, digest_of

HOLDER = PeerId("holder")


async def ask(stream, request) -> Reply:
    await send_frame(stream, encode_request(request))
    return decode_reply(HOLDER, await read_frame(stream, HOLDER, 128))


async def test_list_and_chunks(open_blobs, peers) -> None:
    blobs = await open_blobs()
    data = os.urandom(2 * CHUNK + 7)
    ref = await blobs.put_bytes(data, "input")
    peers.handlers[HOLDER] = BlobServer(blobs).serve
    stream = await peers.open_stream(HOLDER, "/mutirao/blob/1")
    chunks = [data[i : i + CHUNK] for i in range(0, len(data), CHUNK)]
    hashes = b"".join(hashlib.sha256(chunk).digest() for chunk in chunks)
    for _ in range(2):  # Computed, then remembered.
        assert await ask(stream, ListRequest(ref.digest)) == Reply(ReplyStatus.HERE, len(data))
        assert await read_frame(stream, HOLDER, CHUNK) == hashes
    assert await ask(stream, ChunkRequest(ref.digest, 1, 2)) == Reply(ReplyStatus.HERE, len(data))
    assert [await read_frame(stream, HOLDER, CHUNK) for _ in range(2)] == chunks[1:]
    assert await ask(stream, ListRequest(digest_of(b"no"))) == Reply(ReplyStatus.ABSENT)
    empty = await blobs.put_bytes(b"", "input")
    assert await ask(stream, ListRequest(empty.digest)) == Reply(ReplyStatus.HERE, 0)
    await stream.close()
    assert await stream.read_some(1) == b""


async def test_a_long_list_comes_in_frames(open_blobs, peers, monkeypatch) -> None:
    monkeypatch.setattr("node.data.serving.HASHES_PER_FRAME", 2)
    blobs = await open_blobs()
    ref = await blobs.put_bytes(os.urandom(4 * CHUNK + 1), "input")
    peers.handlers[HOLDER] = BlobServer(blobs).serve
    stream = await peers.open_stream(HOLDER, "/mutirao/blob/1")
    for _ in range(2):
        await ask(stream, ListRequest(ref.digest))
        assert [len(await read_frame(stream, HOLDER, CHUNK)) for _ in range(3)] == [64, 64, 32]


@pytest.mark.parametrize(
    "frame, fault",
    [
        (b"garbage", MalformedMessage),
        (bytes(129), RuleBroken),
        (b"", MalformedMessage),
        (encode_request(ChunkRequest(digest_of(b"x"), 1, 1)), RuleBroken),
        (encode_request(ChunkRequest(digest_of(b"x"), 0, 2)), RuleBroken),
    ],
)
async def test_who_breaks_the_spec_is_named(open_blobs, peers, frame, fault) -> None:
    blobs = await open_blobs()
    await blobs.put_bytes(b"x", "input")
    peers.handlers[HOLDER] = BlobServer(blobs).serve
    stream = await peers.open_stream(HOLDER, "/mutirao/blob/1")
    await send_frame(stream, frame)
    with pytest.raises(PeerUnreachable):
        await stream.read_exactly(1)
    await trio.testing.wait_all_tasks_blocked()
    (told,) = peers.served_faults
    assert type(told) is fault
    assert told.peer == PeerId("fetcher")


async def test_a_peer_has_few_streams(open_blobs, peers) -> None:
    blobs = await open_blobs()
    ref = await blobs.put_bytes(b"x", "input")
    server = BlobServer(blobs)
    peers.handlers[HOLDER] = server.serve
    streams = [
        await peers.open_stream(HOLDER, "/mutirao/blob/1") for _ in range(STREAMS_PER_PEER_MAX)
    ]
    for stream in streams:
        assert (await ask(stream, ListRequest(ref.digest))).status == ReplyStatus.HERE
        assert await read_frame(stream, HOLDER, CHUNK) == digest_of(b"x")
    extra = await peers.open_stream(HOLDER, "/mutirao/blob/1")
    assert (await ask(extra, ListRequest(ref.digest))).status == ReplyStatus.BUSY
    await streams[0].close()
    assert await streams[0].read_some(1) == b""
    again = await peers.open_stream(HOLDER, "/mutirao/blob/1")
    assert (await ask(again, ListRequest(ref.digest))).status == ReplyStatus.HERE


async def test_a_silent_peer_is_let_go(open_blobs, peers, autojump_clock) -> None:
    blobs = await open_blobs()
    peers.handlers[HOLDER] = BlobServer(blobs, patience_s=60).serve
    stream = await peers.open_stream(HOLDER, "/mutirao/blob/1")
    with trio.fail_after(61), pytest.raises(PeerUnreachable):
        await stream.read_exactly(1)


@pytest.mark.parametrize("request_of", [ListRequest, lambda digest: ChunkRequest(digest, 0, 1)])
async def test_a_damaged_blob_is_never_sent_whole(open_blobs, peers, request_of) -> None:
    blobs = await open_blobs()
    ref = await blobs.put_bytes(b"right", "input")
    path = blobs.path(ref.digest)
    path.chmod(0o600)
    path.write_bytes(b"wrong")
    peers.handlers[HOLDER] = BlobServer(blobs).serve
    stream = await peers.open_stream(HOLDER, "/mutirao/blob/1")
    with pytest.raises(PeerUnreachable):
        await ask(stream, request_of(ref.digest))
        await read_frame(stream, HOLDER, CHUNK)
    assert blobs.ref(ref.digest) is None
    assert not peers.served_faults
