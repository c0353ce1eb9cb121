"""The holder's side of bulk transfers: serves ranges of its blobs, each connection in a thread.

Spec: specs/data.md#bulk-transfer.
"""

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Any, BinaryIO, Final, Self

import trio

from node.data.blobs import BlobRef, Blobs
from node.data.frames import ABSENT, CHANGED, Reply, ReplyStatus
from node.data.linked_files import LinkedFile, StoredFile
from node.data.ranges import (
    BLOCK,
    HOLDERS_TOLD_MAX,
    HoldersRequest,
    RangeConnection,
    RangeRequest,
    receive_request,
    send_reply,
    tell_holders,
)
from node.data.throttle import Throttle
from protocol.values.bounded import keep_newest
from protocol.values.errors import BlobUnavailable, PeerUnreachable, RuleBroken
from protocol.values.ids import Digest, PeerId

LOG: Final = logging.getLogger(__name__)
CONNECTIONS_PER_PEER_MAX: Final = 4
BLOBS_NOTED_MAX: Final = 1024

Hand = Callable[[Callable[[RangeConnection], None], PeerId, Any], Awaitable[None]]
"""Hands over a connection to a peer by a stream, and runs work on it in a thread."""


class RangeServer:
    """Serves our blobs; `serve` is the handler of /mutirao/bulk/1."""

    def __init__(self, blobs: Blobs, hand_over: Hand, upload: Throttle) -> None:
        self._blobs = blobs
        self._hand_over = hand_over
        self._upload = upload
        self._open: Counter[PeerId] = Counter()
        self._fetched: dict[Digest, dict[PeerId, None]] = {}
        """Who fetched a blob here: it may have it now. The latest are last."""

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
        block, sent = bytearray(BLOCK), set[Digest]()
        with _OpenBlob() as blob:
            while (request := receive_request(connection)) is not None:
                if isinstance(request, HoldersRequest):
                    holders = trio.from_thread.run_sync(self._others, request, connection.peer)
                    tell_holders(connection, holders)
                else:
                    self._answer(connection, request, blob, memoryview(block))
                    sent.add(request.digest)
        # It has ended the connection: it has what it wants.
        trio.from_thread.run_sync(self._note, connection.peer, sent)

    def _others(self, request: HoldersRequest, asker: PeerId) -> list[PeerId]:
        known = self._fetched.get(request.digest, {}) if self._blobs.content(request.digest) else {}
        return [peer for peer in known if peer != asker][-HOLDERS_TOLD_MAX:]

    def _note(self, peer: PeerId, digests: set[Digest]) -> None:
        for digest in digests:
            peers = self._fetched.pop(digest, {})
            peers.pop(peer, None)
            peers[peer] = None
            keep_newest(peers, 2 * HOLDERS_TOLD_MAX)
            self._fetched[digest] = peers
        keep_newest(self._fetched, BLOBS_NOTED_MAX)

    def _answer(
        self,
        connection: RangeConnection,
        request: RangeRequest,
        blob: "_OpenBlob",
        block: memoryview,
    ) -> None:
        found = trio.from_thread.run_sync(self._blobs.content, request.digest)
        if found is None:
            send_reply(connection, ABSENT)
            return
        ref, stored = found
        try:
            file = blob.file(request.digest, stored)
            self._require_right(ref, stored, file, block)
        except BlobUnavailable:
            send_reply(connection, CHANGED if isinstance(stored, LinkedFile) else ABSENT)
            return
        if request.offset + request.length > ref.size:
            raise RuleBroken(connection.peer, "it asked for bytes beyond the end of the blob")
        send_reply(connection, Reply(ReplyStatus.HERE, ref.size))
        left, offset = request.length, request.offset
        while left:
            count = os.preadv(file.fileno(), [block[: min(left, BLOCK)]], offset)
            stored.require_unchanged(file)
            if not count:
                raise BlobUnavailable("the blob was truncated on our disk")
            self._upload.wait(count)
            connection.send(block[:count])
            left -= count
            offset += count

    def _require_right(
        self, ref: BlobRef, stored: StoredFile | LinkedFile, file: BinaryIO, block: memoryview
    ) -> None:
        """BlobUnavailable if a blob is damaged; one in our folder is hashed once in a process."""
        stored.require_unchanged(file)
        if isinstance(stored, LinkedFile) or trio.from_thread.run_sync(
            self._blobs.is_verified, ref.digest
        ):
            return
        whole, offset = hashlib.sha256(), 0
        while count := os.preadv(file.fileno(), [block], offset):
            trio.from_thread.check_cancelled()
            whole.update(block[:count])
            offset += count
        if whole.digest() != ref.digest:
            LOG.error("blob sha256:%s was damaged on disk and is removed", ref.digest.hex())
            trio.from_thread.run(self._blobs.drop, ref.digest)
            raise BlobUnavailable("the blob was damaged on our disk")
        trio.from_thread.run_sync(self._blobs.verified, ref.digest)


class _OpenBlob:
    """The file of the blob that was served last, open: most requests are for the same."""

    def __init__(self) -> None:
        self._digest: Digest | None = None
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def file(self, digest: Digest, stored: StoredFile | LinkedFile) -> BinaryIO:
        """Return the blob's file; BlobUnavailable if it is gone."""
        if digest != self._digest:
            self._open.close()
            self._digest = None
            self._file = self._open.enter_context(stored.open())
            self._digest = digest
        return self._file
