"""Wraps the app: ends requests whose caller has disconnected.

hypercorn's trio worker reports a disconnect only through `receive`, which most handlers never call
again (hypercorn issue 210). So the guard always reads it: a disconnect cancels the handler at once.
The guard also limits bodies, and stores an unexpected exception, which the server would only log,
so that the node can stop.
Spec: specs/rpc.md#connections.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from math import inf
from typing import Any, Final

import trio

from node.rpc.problems import too_large

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

BODY_BYTES_MAX: Final = 8 * 2**20
UNBOUNDED: Final = frozenset({"/v1/blobs"})
"""Paths whose handlers read a body as a stream and limit it themselves."""


class Guard:
    """An ASGI app around another; `failed` is set when the inner one had a bug."""

    def __init__(self, app: App) -> None:
        self._app = app
        self.failed = trio.Event()
        self.error: Exception | None = None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http", "server.py opens no other kind of connection"
        exchange = _Exchange(receive, send, scope["path"] in UNBOUNDED)
        if bug := await exchange.run(self._app, scope):
            self.error = bug
            self.failed.set()


class _Exchange:
    """One request and its answer."""

    def __init__(self, receive: Receive, send: Send, unbounded: bool) -> None:  # noqa: FBT001
        self._receive = receive
        self._send = send
        self._allowed = inf if unbounded else BODY_BYTES_MAX
        self._answering = False
        self._refused = False
        self._answered = False
        # A handler may never read its body, and a disconnect comes after the body: so the pump does
        # not wait for the handler, except for an unlimited body.
        room = 0 if unbounded else inf
        self._to_app, self._from_guard = trio.open_memory_channel[Message](room)

    async def run(self, app: App, scope: Message) -> Exception | None:
        """Run the app until it has answered or its caller disconnects; return its bug, if any."""
        bug: Exception | None = None
        async with trio.open_nursery() as nursery:
            handler = trio.CancelScope()
            nursery.start_soon(self._pump, handler)
            try:
                with handler:
                    await app(scope, self._watched_receive, self._watched_send)
            except Exception as error:  # noqa: BLE001 - hypercorn would swallow it; server.py raises.
                bug = error
            if self._refused and not self._answering:
                await too_large(BODY_BYTES_MAX)(scope, self._receive, self._watched_send)
            nursery.cancel_scope.cancel()
        return bug

    async def _pump(self, handler: trio.CancelScope) -> None:
        """Read everything that the caller sends, and discard what the app does not read.

        Otherwise hypercorn's queue would fill and its answer would wait for ever.
        """
        while (message := await self._receive())["type"] == "http.request":
            self._allowed -= len(message.get("body", b""))
            if self._allowed < 0 and not self._refused:
                self._refused = True
                handler.cancel()
            if self._refused or self._answering:
                continue
            try:
                await self._to_app.send(message)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                continue
        if not self._answered:  # hypercorn says "disconnect" after a whole answer too.
            handler.cancel()

    async def _watched_receive(self) -> Message:
        try:
            return await self._from_guard.receive()
        except trio.ClosedResourceError:
            # The app has begun its answer; only a disconnect, which cancels it, can follow.
            await trio.sleep_forever()

    async def _watched_send(self, message: Message) -> None:
        if not self._answering:
            self._answering = True
            self._from_guard.close()  # Wakes a pump that waits for the app to take more.
        if message["type"] == "http.response.body" and not message.get("more_body"):
            self._answered = True
        await self._send(message)
