"""Requests and answers: one frame each way, in order per peer.

A frame is its length (u32, big-endian) followed by that many bytes. Each side opens one stream for
its own requests and keeps it open.

Spec: specs/network.md.
"""

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import trio

from node.network.interface import SizeLimits, Tuning
from node.network.streams import ByteStream
from protocol.values.errors import MalformedMessage, PeerFault, PeerUnreachable
from protocol.values.ids import PeerId

PROTOCOL: Final = "/mutirao/message/1"
STREAMS_PER_PEER_MAX: Final = 4  # One is enough; more while broken ones still exist.
HEAD_BYTES: Final = 4
FRAME_BYTES_MAX: Final = SizeLimits.FRAME_BYTES_MAX

Handler = Callable[[PeerId, bytes], Awaitable[bytes]]
OpenStream = Callable[[PeerId, str], Awaitable[ByteStream]]
Blame = Callable[[PeerFault], None]


@dataclass(slots=True)
class _Line:
    """The stream to one peer, and the lock that keeps requests in order."""

    lock: trio.Lock = field(default_factory=trio.Lock)
    stream: ByteStream | None = None


class Requests:
    """Our requests to peers."""

    def __init__(self, open_stream: OpenStream, blame: Blame, tuning: Tuning) -> None:
        self._open_stream = open_stream
        self._blame = blame
        self._timeout_s = tuning.request_timeout_ms / 1000
        self._lines: dict[PeerId, _Line] = {}

    async def request(self, peer: PeerId, data: bytes) -> bytes:
        """Send a frame and return the answer; PeerUnreachable if none comes in time.

        If an idle stream turns out to be broken, the request is sent again on a new one: the peer
        may get it twice.
        """
        assert len(data) <= FRAME_BYTES_MAX
        line = self._lines.setdefault(peer, _Line())
        answer = None
        try:
            with trio.move_on_after(self._timeout_s):
                async with line.lock:
                    answer = await self._exchange_anew(line, peer, data)
        finally:
            if line.stream is None and not line.lock.locked():
                self._lines.pop(peer, None)
        if answer is None:
            raise PeerUnreachable(f"{peer} did not answer")
        return answer

    async def forget(self, peer: PeerId) -> None:
        """Discard the stream to a peer whose last connection is closed."""
        line = self._lines.get(peer)
        if line is not None and not line.lock.locked():
            del self._lines[peer]
            if line.stream is not None:
                await line.stream.reset()

    async def _exchange_anew(self, line: _Line, peer: PeerId, data: bytes) -> bytes | None:
        """Return the answer over the existing stream, or over a new one."""
        answer = await self._exchange(line, data)
        if answer is None:
            line.stream = await self._open_stream(peer, PROTOCOL)
            answer = await self._exchange(line, data)
        return answer

    async def _exchange(self, line: _Line, data: bytes) -> bytes | None:
        """Return the answer; None if there is no stream, or it broke and was discarded."""
        stream, line.stream = line.stream, None  # Kept only on success.
        if stream is None:
            return None
        answer = None
        try:
            await _write_frame(stream, data)
            answer = await _read_frame(stream)
        except PeerUnreachable:
            return None
        except MalformedMessage as fault:
            self._blame(fault)
            return None
        finally:
            if answer is None:
                await stream.reset()
        line.stream = stream
        return answer


class Answers:
    """Peers' requests to us."""

    def __init__(self, handler: Handler, tuning: Tuning) -> None:
        self._handler = handler
        self._timeout_s = tuning.handler_timeout_ms / 1000
        self._streams: Counter[PeerId] = Counter()

    async def serve(self, peer: PeerId, stream: ByteStream) -> None:
        """Answer the requests of one stream until it ends; raises what the handler raises.

        MalformedMessage for a frame that is too large: it is not even read.
        """
        if self._streams[peer] >= STREAMS_PER_PEER_MAX:
            await stream.reset()
            return
        self._streams[peer] += 1
        try:
            while (request := await _read_frame(stream, rests=True)) is not None:
                with trio.move_on_after(self._timeout_s) as scope:
                    answer = await self._handler(peer, request)
                if scope.cancelled_caught:
                    raise PeerUnreachable(f"our answer to {peer} took too long")
                await _write_frame(stream, answer)
        finally:
            self._streams[peer] -= 1
            if not self._streams[peer]:
                del self._streams[peer]


async def _write_frame(stream: ByteStream, data: bytes) -> None:
    assert len(data) <= FRAME_BYTES_MAX
    await stream.write(len(data).to_bytes(HEAD_BYTES) + data)


async def _read_frame(stream: ByteStream, *, rests: bool = False) -> bytes | None:
    """Return the next frame, or None at the end of the stream between two frames.

    With `rests`, the first byte may take any time. MalformedMessage if the frame is too large: it
    is not even read.
    """
    head = await (stream.wait_some(HEAD_BYTES) if rests else stream.read_some(HEAD_BYTES))
    if not head:
        return None
    size = int.from_bytes(head + await stream.read_exactly(HEAD_BYTES - len(head)))
    if size > FRAME_BYTES_MAX:
        raise MalformedMessage(stream.peer, f"a frame of {size} bytes")
    return await stream.read_exactly(size)
