"""Requests and answers: one frame each way, several in flight, in order per peer.

A frame is its length (u32, big-endian) followed by that many bytes. Each side opens one stream for
its own requests and keeps it open. The answers come in the order of the requests.

Spec: specs/network.md#messages.
"""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import trio

from node.network.interface import SizeLimits, Tuning
from node.network.streams import ByteStream
from protocol.values.errors import MalformedMessage, NodeError, PeerFault, PeerUnreachable
from protocol.values.ids import PeerId

LOG: Final = logging.getLogger(__name__)
PROTOCOL: Final = "/mutirao/message/1"
STREAMS_PER_PEER_MAX: Final = 4  # One is enough; more while broken ones still exist.
HEAD_BYTES: Final = 4
FRAME_BYTES_MAX: Final = SizeLimits.FRAME_BYTES_MAX
READ_BYTES: Final = 16 * 1024
IN_FLIGHT_MAX: Final = 8
"""Requests of one stream that are processed at a time; further ones wait in the stream."""
SMALL_BYTES: Final = 8 * 1024
"""A longer request is the last in flight: so those of a stream need little memory together."""

Answer = Callable[[], Awaitable[bytes]]
"""Waits for the answer to a request that has been accepted."""
Handler = Callable[[PeerId, bytes], Awaitable[Answer]]
"""Accepts a request, before the next one of its stream is read, and returns its answer."""
OpenStream = Callable[[PeerId, str], Awaitable[ByteStream]]
Blame = Callable[[PeerFault], None]


class _Frames:
    """The frames of one stream."""

    def __init__(self, stream: ByteStream) -> None:
        self.stream = stream
        self._buffer = bytearray()

    async def write(self, data: bytes) -> None:
        assert len(data) <= FRAME_BYTES_MAX
        await self.stream.write(len(data).to_bytes(HEAD_BYTES) + data)

    async def read(self, *, rests: bool = False) -> bytes | None:
        """Return the next frame, or None at the end of the stream between two frames.

        With `rests`, the first byte may take any time. MalformedMessage if the frame is too large:
        it is not read to its end.
        """
        wait = self.stream.wait_some if rests and not self._buffer else self.stream.read_some
        if len(self._buffer) < HEAD_BYTES and not await self._fill(HEAD_BYTES, wait):
            return None
        size = int.from_bytes(self._buffer[:HEAD_BYTES])
        if size > FRAME_BYTES_MAX:
            raise MalformedMessage(self.stream.peer, f"a frame of {size} bytes")
        end = HEAD_BYTES + size
        await self._fill(end, self.stream.read_some)
        frame = bytes(self._buffer[HEAD_BYTES:end])
        del self._buffer[:end]
        return frame

    async def _fill(self, size: int, wait: Callable[[int], Awaitable[bytes]]) -> bool:
        """Read until the buffer has so many bytes; return False if the stream ends with none."""
        while len(self._buffer) < size:
            piece = await wait(max(READ_BYTES, size - len(self._buffer)))
            if not piece and not self._buffer:
                return False
            if not piece:
                raise PeerUnreachable(f"{self.stream.peer} ended within a frame")
            self._buffer += piece
            wait = self.stream.read_some
        return True


@dataclass(slots=True, eq=False)
class _Turn:
    """A request's place in the order: when it is over, the next one reads its own answer."""

    over: trio.Event = field(default_factory=trio.Event)
    is_answered: bool = False


@dataclass(slots=True, eq=False)
class _Pipe:
    """A stream for our requests, and the last of them."""

    frames: _Frames
    last: _Turn


@dataclass(slots=True, eq=False)
class _Line:
    """The stream to one peer, if there is one, and the lock under which it is written."""

    lock: trio.Lock = field(default_factory=trio.Lock)
    pipe: _Pipe | None = None
    users: int = 0


class Requests:
    """Our requests to peers."""

    def __init__(self, open_stream: OpenStream, blame: Blame, tuning: Tuning) -> None:
        self._open_stream = open_stream
        self._blame = blame
        self._timeout_s = tuning.request_timeout_ms / 1000
        self._lines: dict[PeerId, _Line] = {}

    async def request(self, peer: PeerId, data: bytes) -> bytes:
        """Send a frame and return the answer; PeerUnreachable if none comes in time.

        Any number may be in flight. If an existing stream turns out to be broken, the request is
        sent again on a new one: the peer may get it twice.
        """
        line = self._lines.setdefault(peer, _Line())
        line.users += 1
        turn, answer = _Turn(), None
        try:
            with trio.move_on_after(self._timeout_s):
                answer, may_repeat = await self._exchange(line, peer, data, turn)
                if answer is None and may_repeat:
                    answer, _ = await self._exchange(line, peer, data, turn)
        finally:
            turn.is_answered = answer is not None
            turn.over.set()
            line.users -= 1
            if line.pipe is None and not line.users:
                self._lines.pop(peer, None)
        if answer is None:
            raise PeerUnreachable(f"{peer} did not answer")
        return answer

    async def forget(self, peer: PeerId) -> None:
        """Discard the stream to a peer whose last connection is closed."""
        line = self._lines.get(peer)
        if line is not None and not line.users:
            del self._lines[peer]
            if line.pipe is not None:
                await line.pipe.frames.stream.reset()

    async def _exchange(
        self, line: _Line, peer: PeerId, data: bytes, turn: _Turn
    ) -> tuple[bytes | None, bool]:
        """Return the answer, None if the stream broke, and whether a new one may do better.

        It may not if this one was new, or if it did no better for the request before.
        """
        pipe, before, is_new = await self._write(line, peer, data, turn)
        answer = None
        try:
            if not before.over.is_set():
                await before.over.wait()
            if line.pipe is pipe:
                answer = await pipe.frames.read()
        except MalformedMessage as fault:
            self._blame(fault)
        except PeerUnreachable as error:
            LOG.debug("a stream of requests broke: %s", error)
        finally:
            if answer is None:
                await _discard(line, pipe)
        return answer, before.is_answered and not is_new

    async def _write(
        self, line: _Line, peer: PeerId, data: bytes, turn: _Turn
    ) -> tuple[_Pipe, _Turn, bool]:
        """Write a request; return its stream, the turn before its own, and if the stream is new."""
        async with line.lock:
            is_new = line.pipe is None
            if line.pipe is None:
                stream = await self._open_stream(peer, PROTOCOL)
                line.pipe = _Pipe(_Frames(stream), _first_turn())
            pipe = line.pipe
            before, pipe.last = pipe.last, turn
            is_written = False
            try:
                await pipe.frames.write(data)
                is_written = True
            except PeerUnreachable as error:
                LOG.debug("a stream of requests broke: %s", error)
            finally:
                if not is_written:
                    await _discard(line, pipe)
        return pipe, before, is_new


def _first_turn() -> _Turn:
    turn = _Turn(is_answered=True)
    turn.over.set()
    return turn


async def _discard(line: _Line, pipe: _Pipe) -> None:
    if line.pipe is pipe:
        line.pipe = None
        await pipe.frames.stream.reset()


@dataclass(frozen=True, slots=True, eq=False)
class _Accepted:
    """A request that waits for its answer."""

    answer: Answer
    deadline: float
    written: trio.Event = field(default_factory=trio.Event)


async def ask_once(stream: ByteStream, data: bytes) -> bytes:
    """Send a frame over a stream of its own and return the answer; PeerUnreachable if none."""
    frames = _Frames(stream)
    try:
        await frames.write(data)
        answer = await frames.read()
    except MalformedMessage as fault:
        raise PeerUnreachable(f"{stream.peer} answered nonsense") from fault
    finally:
        await stream.reset()
    if answer is None:
        raise PeerUnreachable(f"{stream.peer} closed the stream")
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
            await self._serve(_Frames(stream))
        finally:
            self._streams[peer] -= 1
            if not self._streams[peer]:
                del self._streams[peer]

    async def _serve(self, frames: _Frames) -> None:
        # With the one that is being accepted and the one that is being answered.
        accept, answer = trio.open_memory_channel[_Accepted](IN_FLIGHT_MAX - 2)
        errors: list[NodeError] = []

        async def run(part: Awaitable[None]) -> None:
            try:
                await part
            except NodeError as error:
                errors.append(error)
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, self._accept(frames, accept))
            nursery.start_soon(run, self._answer(frames, answer))
        if errors:
            raise errors[0]

    async def _accept(self, frames: _Frames, accepted: trio.MemorySendChannel[_Accepted]) -> None:
        peer = frames.stream.peer
        async with accepted:
            while (request := await frames.read(rests=True)) is not None:
                deadline = trio.current_time() + self._timeout_s
                with _until(deadline, peer):
                    one = _Accepted(await self._handler(peer, request), deadline)
                await accepted.send(one)
                if len(request) > SMALL_BYTES:
                    await one.written.wait()

    async def _answer(
        self, frames: _Frames, accepted: trio.MemoryReceiveChannel[_Accepted]
    ) -> None:
        async for one in accepted:
            with _until(one.deadline, frames.stream.peer):
                answer = await one.answer()
            await frames.write(answer)
            one.written.set()


@contextmanager
def _until(deadline: float, peer: PeerId) -> Iterator[None]:
    with trio.move_on_at(deadline) as scope:
        yield
    if scope.cancelled_caught:
        raise PeerUnreachable(f"our answer to {peer} took too long")
