"""The holder's side of the blob protocol: serves chunk lists and chunks of its blobs.

Any peer that knows a digest gets the blob: share a digest only with those who may read it.

Spec: specs/data.md#transfer.
"""

import hashlib
import logging
from collections import Counter, OrderedDict
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import BinaryIO, Final

import trio

from node.data.blobs import BlobRef, Blobs
from node.data.frames import (
    ABSENT,
    CHANGED,
    CHUNK,
    HASHES_PER_FRAME,
    MESSAGE_MAX,
    Buffered,
    ChunkRequest,
    FrameStream,
    ListRequest,
    Reply,
    ReplyStatus,
    chunk_count,
    decode_request,
    encode_reply,
    patience,
    read_frame_or_end,
    send_frame,
)
from node.data.linked_files import LinkedFile
from node.data.throttle import Throttle
from protocol.values.errors import (
    BlobUnavailable,
    PeerFault,
    PeerUnreachable,
    RuleBroken,
)
from protocol.values.ids import Digest, PeerId, digest_of

LOG: Final = logging.getLogger(__name__)
STREAMS_PER_PEER_MAX: Final = 4
STREAMS_MAX: Final = 64
LISTS_KEPT_MAX: Final = 256
"""The number of chunk lists in memory; each takes 32 bytes per MiB of its blob."""


class BlobServer:
    """Serves our blobs; `serve` is the handler of /mutirao/blob/1.

    `patience_s` limits each wait for the peer: for its next request, and for each write.
    """

    def __init__(
        self, blobs: Blobs, upload: Throttle | None = None, patience_s: float = 60
    ) -> None:
        self._blobs = blobs
        self._upload = upload or Throttle(0)
        self._patience_s = patience_s
        self._open: Counter[PeerId] = Counter()
        self._lists: OrderedDict[Digest, bytes] = OrderedDict()

    async def serve(self, peer: PeerId, stream: FrameStream) -> None:
        """Answer a peer's requests, one after the other, until it closes the stream.

        If the peer violates the spec, resets the stream and raises MalformedMessage or RuleBroken.
        """
        stream = Buffered(stream)
        if self._open[peer] >= STREAMS_PER_PEER_MAX or self._open.total() >= STREAMS_MAX:
            await self._refuse(peer, stream)
            return
        self._open[peer] += 1
        try:
            await self._answer_all(peer, stream)
            await stream.close()
        except (PeerUnreachable, BlobUnavailable) as error:
            LOG.debug("serving blobs to %s ended early: %s", peer, error)
            await stream.reset()
        except PeerFault:
            await stream.reset()
            raise
        finally:
            self._open[peer] -= 1
            self._open += Counter()  # Removes entries of 0.

    async def _refuse(self, peer: PeerId, stream: FrameStream) -> None:
        try:
            await self._send(peer, stream, encode_reply(Reply(ReplyStatus.BUSY)))
            await stream.close()
        except PeerUnreachable:
            await stream.reset()

    async def _answer_all(self, peer: PeerId, stream: FrameStream) -> None:
        while True:
            with patience(peer, self._patience_s):
                frame = await read_frame_or_end(stream, peer, MESSAGE_MAX)
            if frame is None:
                return
            await self._answer(peer, stream, decode_request(peer, frame))

    async def _answer(
        self, peer: PeerId, stream: FrameStream, request: ListRequest | ChunkRequest
    ) -> None:
        found = self._blobs.content(request.digest)
        if found is None:
            await self._send(peer, stream, encode_reply(ABSENT))
            return
        ref, stored = found
        if isinstance(request, ChunkRequest) and request.end > chunk_count(ref.size):
            raise RuleBroken(peer, "it asked for chunks beyond the end of the blob")
        try:
            file = stored.open()
        except BlobUnavailable:
            is_linked = isinstance(stored, LinkedFile)
            await self._send(peer, stream, encode_reply(CHANGED if is_linked else ABSENT))
            return
        with file:
            await self._send(peer, stream, encode_reply(Reply(ReplyStatus.HERE, ref.size)))
            async with aclosing(self._frames(request, ref, file)) as frames:
                async for frame in frames:
                    stored.require_unchanged(file)
                    await self._upload.pause(len(frame))
                    await self._send(peer, stream, frame)

    async def _send(self, peer: PeerId, stream: FrameStream, frame: bytes) -> None:
        with patience(peer, self._patience_s):
            await send_frame(stream, frame)

    async def _frames(
        self, request: ListRequest | ChunkRequest, ref: BlobRef, file: BinaryIO
    ) -> AsyncGenerator[bytes, None]:
        """Yield the data after the answer; BlobUnavailable if the blob turns out to be damaged."""
        match request:
            case ChunkRequest(_, first, count):
                file.seek(first * CHUNK)
                for _ in range(count):
                    chunk = await trio.to_thread.run_sync(file.read, CHUNK)
                    if ref.size <= CHUNK:  # Its fetcher may not have requested the list.
                        await self._require(digest_of(chunk), ref)
                    yield chunk
            case ListRequest(digest) if (known := self._lists.get(digest)) is not None:
                self._lists.move_to_end(digest)
                step = 32 * HASHES_PER_FRAME
                for start in range(0, len(known), step):
                    yield known[start : start + step]
            case _:
                async with aclosing(self._hash_all(ref, file)) as frames:
                    async for frame in frames:
                        yield frame

    async def _hash_all(self, ref: BlobRef, file: BinaryIO) -> AsyncGenerator[bytes, None]:
        """Yield the chunk list while computing it, and cache it.

        BlobUnavailable after the last but one frame if the disk damaged the blob: no peer gets a
        complete list of it, so no peer blames us.
        """
        whole = hashlib.sha256()
        frames: list[bytes] = []
        while frame := await trio.to_thread.run_sync(_hash_some, file, whole):
            if frames:
                yield frames[-1]
            frames.append(frame)
        await self._require(Digest(whole.digest()), ref)
        self._lists[ref.digest] = b"".join(frames)
        while len(self._lists) > LISTS_KEPT_MAX:
            self._lists.popitem(last=False)
        if frames:
            yield frames[-1]

    async def _require(self, found: Digest, ref: BlobRef) -> None:
        """Remove a blob whose bytes no longer match its digest; BlobUnavailable then."""
        if found != ref.digest:
            LOG.error("blob sha256:%s was damaged on disk and is removed", ref.digest.hex())
            await self._blobs.drop(ref.digest)
            raise BlobUnavailable("the blob was damaged on our disk")


def _hash_some(file: BinaryIO, whole: "hashlib._Hash") -> bytes:
    """Return the hashes of the next chunks, none at the end of the file."""
    hashes: list[bytes] = []
    while len(hashes) < HASHES_PER_FRAME and (chunk := file.read(CHUNK)):
        trio.from_thread.check_cancelled()
        whole.update(chunk)
        hashes.append(hashlib.sha256(chunk).digest())
    return b"".join(hashes)
