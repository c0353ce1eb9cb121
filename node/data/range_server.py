"""The holder's side of bulk transfers: serves ranges of its blobs, each connection in a thread.

Spec: specs/data.md#bulk-transfer.
"""

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

import trio

from node.data.blobs import BlobRef, Blobs
from node.data.disk import open_regular
from node.data.frames import Reply, ReplyStatus
from node.data.ranges import BLOCK, RangeConnection, RangeRequest, receive_request, send_reply
from node.data.throttle import Throttle
from protocol.values.errors import BlobUnavailable, InvalidRequest, PeerUnreachable, RuleBroken
from protocol.values.ids import Digest, PeerId

LOG: Final = logging.getLogger(__name__)
CONNECTIONS_PER_PEER_MAX: Final = 4

Hand = Callable[[Callable[[RangeConnection], None], PeerId, Any], Awaitable[None]]
"""Hands over a connection to a peer by a stream, and runs work on it in a thread."""


class RangeServer:
    """Serves our blobs; `serve` is the handler of /mutirao/bulk/1."""

    def __init__(self, blobs: Blobs, hand_over: Hand, upload: Throttle) -> None:
        self._blobs = blobs
        self._hand_over = hand_over
        self._upload = upload
        self._open: Counter[PeerId] = Counter()

    async def serve(self, peer: PeerId, stream: Any) -> None:
        """Answer a peer's requests over one bulk connection, until it ends it.

        PeerUnreachable if it has too many or breaks off, MalformedMessage or RuleBroken if it
        violates the spec.
        """
        if self._open[peer] >= CONNECTIONS_PER_PEER_MAX:
            raise PeerUnreachable(f"{peer} has {CONNECTIONS_PER_PEER_MAX} bulk connections")
        self._open[peer] += 1
        try:
            await self._hand_over(self._answer_all, peer, stream)
        finally:
            self._open[peer] -= 1
            self._open += Counter()  # Removes entries of 0.

    def _answer_all(self, connection: RangeConnection) -> None:
        block = bytearray(BLOCK)
        with _OpenBlob() as blob:
            while (request := receive_request(connection)) is not None:
                self._answer(connection, request, blob, memoryview(block))

    def _answer(
        self,
        connection: RangeConnection,
        request: RangeRequest,
        blob: "_OpenBlob",
        block: memoryview,
    ) -> None:
        found = trio.from_thread.run_sync(self._find, request.digest)
        try:
            file = None if found is None else blob.file(request.digest, found[1])
        except InvalidRequest:  # It was evicted a moment ago.
            file = None
        if found is None or file is None or not self._is_right(found[0], file, block):
            send_reply(connection, Reply(ReplyStatus.ABSENT))
            return
        if request.offset + request.length > found[0].size:
            raise RuleBroken(connection.peer, "it asked for bytes beyond the end of the blob")
        send_reply(connection, Reply(ReplyStatus.HERE, found[0].size))
        left, offset = request.length, request.offset
        while left:
            count = os.preadv(file.fileno(), [block[: min(left, BLOCK)]], offset)
            if not count:
                raise BlobUnavailable("the blob was truncated on our disk")
            self._upload.wait(count)
            connection.send(block[:count])
            left -= count
            offset += count

    def _find(self, digest: Digest) -> tuple[BlobRef, Path] | None:
        ref, path = self._blobs.ref(digest), self._blobs.path(digest)
        return None if ref is None or path is None else (ref, path)

    def _is_right(self, ref: BlobRef, file: BinaryIO, block: memoryview) -> bool:
        """Return whether a blob is undamaged; it is hashed once in a process."""
        if trio.from_thread.run_sync(self._blobs.is_verified, ref.digest):
            return True
        whole, offset = hashlib.sha256(), 0
        while count := os.preadv(file.fileno(), [block], offset):
            trio.from_thread.check_cancelled()
            whole.update(block[:count])
            offset += count
        if whole.digest() == ref.digest:
            trio.from_thread.run_sync(self._blobs.verified, ref.digest)
            return True
        LOG.error("blob sha256:%s was damaged on disk and is removed", ref.digest.hex())
        trio.from_thread.run(self._blobs.drop, ref.digest)
        return False


class _OpenBlob:
    """The file of the blob that was served last, open: most requests are for the same."""

    def __init__(self) -> None:
        self._digest: Digest | None = None
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def file(self, digest: Digest, path: Path) -> BinaryIO:
        """Return the blob's file; InvalidRequest if it is gone."""
        if digest != self._digest:
            self._open.close()
            self._digest = None
            self._file = self._open.enter_context(open_regular(path))
            self._digest = digest
        return self._file
