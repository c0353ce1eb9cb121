"""The fetcher's requests to one holder, over one stream.

Spec: specs/data.md#transfer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from node.data.blobs import BlobRef
from node.data.frames import (
    CHUNK,
    CHUNKS_PER_REQUEST_MAX,
    HASHES_PER_FRAME,
    MESSAGE_MAX,
    ChunkRequest,
    FrameStream,
    ListRequest,
    chunk_count,
    decode_reply,
    encode_request,
    patience,
    read_frame,
    send_frame,
)
from node.data.partial import Partial
from node.data.throttle import Throttle
from protocol.values.errors import BlobUnavailable, RuleBroken, StorageFull
from protocol.values.ids import Digest, PeerId, digest_of

AHEAD_MAX: Final = 64
"""Small blobs to request before the first of them is read."""

Progress = Callable[[int, int], None]
"""Called with the verified bytes and the size of the blob, after each chunk."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A blob to fetch; `size` is its size in bytes, if it is known already."""

    digest: Digest
    kind: str
    size_max: int
    size: int | None = None

    def __str__(self) -> str:
        return named(self.digest)


@dataclass(frozen=True, slots=True)
class Session:
    """Requests to one holder over one stream."""

    stream: FrameStream
    holder: PeerId
    download: Throttle
    patience_s: float

    async def chunk_list(
        self, wanted: Wanted, can_hold: Callable[[int], bool]
    ) -> tuple[int, bytes]:
        """Return the size in bytes and the SHA-256 of each chunk, as the holder claims them.

        StorageFull if so many bytes would never fit: then the list is not read.
        """
        size = await self._ask(ListRequest(wanted.digest))
        if size > wanted.size_max:
            raise BlobUnavailable(f"claims {size} bytes, over the allowed {wanted.size_max}")
        if not can_hold(size):
            raise StorageFull(f"{wanted}: {size} bytes do not fit into the blob budget")
        hashes = bytearray()
        left = chunk_count(size)
        while left:
            expected = min(left, HASHES_PER_FRAME)
            hashes += await self._frame(32 * expected)
            left -= expected
        return size, bytes(hashes)

    async def whole(self, refs: Sequence[BlobRef]) -> list[bytes]:
        """Return blobs of at most one chunk each; many are requested before the first is read."""
        contents: list[bytes] = []
        for first in range(0, len(refs), AHEAD_MAX):
            ahead = refs[first : first + AHEAD_MAX]
            for request in [ChunkRequest(ref.digest, 0, 1) for ref in ahead if ref.size]:
                await self._send(request)
            contents += [await self._read_whole(ref) for ref in ahead]
        return contents

    async def _read_whole(self, ref: BlobRef) -> bytes:
        data = b""
        if ref.size:
            require_size(await self._answer(), ref)
            data = await self._frame(ref.size)
        if digest_of(data) != ref.digest:
            raise RuleBroken(self.holder, f"its bytes do not match {named(ref.digest)}")
        return data

    async def fill(self, partial: Partial, digest: Digest, report: Progress) -> None:
        """Fetch all missing chunks."""
        missing = range(partial.done, chunk_count(partial.size))
        report(partial.bytes_done, partial.size)
        for first in missing[::CHUNKS_PER_REQUEST_MAX]:
            count = min(CHUNKS_PER_REQUEST_MAX, missing.stop - first)
            if await self._ask(ChunkRequest(digest, first, count)) != partial.size:
                raise RuleBroken(self.holder, "it changed the blob's size")
            for number in range(first, first + count):
                chunk = await self._frame(partial.chunk_size(number))
                if not await trio.to_thread.run_sync(partial.append, chunk):
                    raise RuleBroken(self.holder, f"chunk {number} is not what its list says")
                report(partial.bytes_done, partial.size)

    async def _ask(self, request: ListRequest | ChunkRequest) -> int:
        """Return the blob's size in bytes; BlobUnavailable if the holder does not serve it."""
        await self._send(request)
        return await self._answer()

    async def _send(self, request: ListRequest | ChunkRequest) -> None:
        with patience(self.holder, self.patience_s):
            await send_frame(self.stream, encode_request(request))

    async def _answer(self) -> int:
        """Return the size in the next answer; BlobUnavailable if it is a refusal."""
        with patience(self.holder, self.patience_s):
            frame = await read_frame(self.stream, self.holder, MESSAGE_MAX)
        answer = decode_reply(self.holder, frame)
        if answer.why_not:
            raise BlobUnavailable(answer.why_not)
        return answer.size

    async def _frame(self, size: int) -> bytes:
        """Return the next frame, of exactly this size."""
        await self.download.pause(size)
        with patience(self.holder, self.patience_s):
            frame = await read_frame(self.stream, self.holder, CHUNK)
        if len(frame) != size:
            raise RuleBroken(self.holder, f"a frame of {len(frame)} bytes instead of {size}")
        return frame


def named(digest: Digest) -> str:
    """Return a blob's name for messages."""
    return f"blob sha256:{digest.hex()[:12]}"


def require_size(size: int, ref: BlobRef) -> None:
    """BlobUnavailable if a blob has another size than its reference."""
    if size != ref.size:
        raise BlobUnavailable(f"{named(ref.digest)} has {size} bytes instead of {ref.size}")
