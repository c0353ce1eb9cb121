"""Streaming answers: events as SSE, logs as bytes, until the source or the node ends.

Spec: specs/rpc.md#streams.
"""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import asdict
from typing import Any, Final

import trio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from node.rpc.image_views import ImageView
from node.rpc.job_views import JobEventView
from node.rpc.problems import problem_of
from protocol.values.errors import NodeError

BEAT_S: Final = 10
"""An idle event stream sends a beat this often, so its reader knows that it is alive."""
Tell = Callable[[str, Any], Awaitable[None]]
Work = Callable[[Tell], Awaitable[ImageView]]
RETRY_MS: Final = 2000
OPENING: Final = f"retry: {RETRY_MS}\n\n".encode()
BEAT: Final = b": beat\n\n"
BYE: Final = b"event: bye\ndata: {}\n\n"


class LiveBytes(Response):
    """Sends what the source yields; if the node stops first, the answer ends early.

    The caller then sees an incomplete answer.
    """

    def __init__(
        self, source: AsyncGenerator[bytes, None], closing: trio.Event, etag: str = ""
    ) -> None:
        self._source = source
        self._closing = closing
        headers = {"cache-control": "no-store"} | ({"etag": etag} if etag else {})
        super().__init__(media_type=self._media_type(), headers=headers)
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        if opening := self._opening():
            await _send_part(send, opening)
        ending = await self._copy(send)
        if ending is not None:
            await send({"type": "http.response.body", "body": ending, "more_body": False})

    async def _copy(self, send: Send) -> bytes | None:
        """Send the source's parts; return the final part, or None for none."""
        failures: list[NodeError] = []
        async with trio.open_nursery() as nursery:
            parts_in, parts_out = trio.open_memory_channel[bytes](0)
            producing = trio.CancelScope()
            nursery.start_soon(self._produce, parts_in, producing, failures.append)
            nursery.start_soon(_cancel_at, self._closing, producing)
            await self._forward(parts_out, send)
            nursery.cancel_scope.cancel()
        return self._ending(failures, stopped=producing.cancelled_caught)

    async def _produce(
        self,
        parts: trio.MemorySendChannel[bytes],
        producing: trio.CancelScope,
        failed: Callable[[NodeError], None],
    ) -> None:
        with parts, producing:
            try:
                await self._send_all(parts)
            except NodeError as error:
                failed(error)

    async def _send_all(self, parts: trio.MemorySendChannel[bytes]) -> None:
        async with aclosing(self._source) as source:
            async for part in source:
                await parts.send(part)

    async def _forward(self, parts: trio.MemoryReceiveChannel[bytes], send: Send) -> None:
        while True:
            part = self._beat()
            with trio.move_on_after(BEAT_S):
                try:
                    part = await parts.receive()
                except trio.EndOfChannel:
                    return
            if part:
                await _send_part(send, part)

    def _media_type(self) -> str:
        return "application/octet-stream"

    def _opening(self) -> bytes:
        return b""

    def _beat(self) -> bytes:
        return b""

    def _ending(self, failures: list[NodeError], *, stopped: bool) -> bytes | None:
        return None if failures or stopped else b""


class LiveLines(LiveBytes):
    """Lines of JSON as they come."""

    def _media_type(self) -> str:
        return "application/jsonl"


class LiveReport(LiveLines):
    """Lines of long work, each an object with one name; the last is the work's image or error.

    `work` gets a function that sends a line.
    """

    def __init__(self, work: Work, closing: trio.Event) -> None:
        super().__init__(_nothing(), closing)
        self._work = work

    async def _send_all(self, parts: trio.MemorySendChannel[bytes]) -> None:
        async def tell(name: str, value: Any) -> None:
            await parts.send(_line(name, value))

        await tell("image", asdict(await self._work(tell)))

    def _ending(self, failures: list[NodeError], *, stopped: bool) -> bytes | None:
        if failures:
            return _line("error", problem_of(failures[0]).model_dump())
        return super()._ending(failures, stopped=stopped)


class LiveEvents(LiveBytes):
    """Server-sent events: they end with `event: end`, `event: bye` or `event: error`."""

    def __init__(self, events: AsyncIterator[JobEventView], closing: trio.Event) -> None:
        super().__init__(_encoded(events), closing)

    def _media_type(self) -> str:
        return "text/event-stream"

    def _opening(self) -> bytes:
        return OPENING

    def _beat(self) -> bytes:
        return BEAT

    def _ending(self, failures: list[NodeError], *, stopped: bool) -> bytes:
        if failures:
            return f"event: error\ndata: {problem_of(failures[0]).model_dump_json()}\n\n".encode()
        return BYE if stopped else b"event: end\ndata: {}\n\n"


async def closing_bytes(source: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """Yield the source's items, and close it at once when this generator is closed."""
    try:
        async for part in source:
            yield part
    finally:
        await _close(source)


def sse_of(event: JobEventView) -> bytes:
    """Return the bytes of one job event; its id is its number, for Last-Event-ID."""
    data = {"seq": event.seq, "at_ms": event.at_ms, "kind": event.kind, "detail": event.detail}
    return f"id: {event.seq}\nevent: {event.kind}\ndata: {json.dumps(data)}\n\n".encode()


def _line(name: str, value: Any) -> bytes:
    return json.dumps({name: value}).encode() + b"\n"


async def _nothing() -> AsyncGenerator[bytes, None]:
    """Yield nothing: the answer sends its parts itself."""
    parts: tuple[bytes, ...] = ()
    for part in parts:
        yield part


async def _encoded(events: AsyncIterator[JobEventView]) -> AsyncGenerator[bytes, None]:
    try:
        async for event in events:
            yield sse_of(event)
    finally:
        await _close(events)


async def _close(source: AsyncIterator[Any]) -> None:
    if isinstance(source, AsyncGenerator):
        await source.aclose()


async def _cancel_at(closing: trio.Event, scope: trio.CancelScope) -> None:
    await closing.wait()
    scope.cancel()


async def _send_part(send: Send, part: bytes) -> None:
    await send({"type": "http.response.body", "body": part, "more_body": True})
