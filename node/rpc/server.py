"""Serves the API on a Unix socket that only its owner may use.

The server accepts the connections itself and passes each to hypercorn: hypercorn's `serve` cannot
close one whose caller has stopped reading, which would keep the node from stopping.
Spec: specs/rpc.md#connections.
"""

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIFramework, ConnectionState

from node.rpc.app import make_app
from node.rpc.guard import Guard
from node.rpc.service import Service
from protocol.values.errors import Conflict, DaemonUnavailable, InvalidRequest

PATH_BYTES_MAX: Final = 107
"""The longest socket path (unix(7)): 108 bytes less the final zero."""
DRAIN_S: Final = 0.8
"""How long requests may continue when the node stops."""
CUT_S: Final = 1.0
"""How long closed connections may take to end."""
KEEP_ALIVE_S: Final = 30
BACKLOG: Final = 128


async def serve_api(
    service: Service, path: Path, *, task_status: Any = trio.TASK_STATUS_IGNORED
) -> None:
    """Serve until cancelled; then let requests end, at most DRAIN_S, and unlink the socket.

    Calls `task_status.started()` when the socket accepts connections. The caller holds the lock of
    the data folder, so an existing socket belongs to a dead node and is replaced. Raises
    InvalidRequest if the path is too long, Conflict if it is not a socket. An unexpected exception
    in a request is raised here.
    """
    closing = trio.Event()
    guard = Guard(make_app(service, closing))
    with _bound(path) as listener:
        async with trio.open_nursery() as nursery:
            serving = trio.CancelScope(shield=True)  # The drain continues when we are cancelled.
            nursery.start_soon(_serve, listener, guard, closing, serving)
            task_status.started()
            try:
                await guard.failed.wait()
            finally:
                closing.set()
                serving.deadline = trio.current_time() + DRAIN_S + CUT_S
    assert guard.error is not None
    raise guard.error


async def _serve(
    listener: trio.SocketListener, guard: Guard, closing: trio.Event, serving: trio.CancelScope
) -> None:
    with serving:
        connections = _Connections(guard)
        async with trio.open_nursery() as nursery:
            accept = partial(
                trio.serve_listeners, connections.serve, [listener], handler_nursery=nursery
            )
            async with trio.open_nursery() as accepting:
                accepting.start_soon(accept)
                await closing.wait()
                accepting.cancel_scope.cancel()
            with trio.move_on_after(DRAIN_S):
                await connections.drain()
            connections.cut()


class _Connections:
    """The open connections."""

    def __init__(self, guard: Guard) -> None:
        self._app = ASGIWrapper(cast("ASGIFramework", guard))
        self._context = WorkerContext(max_requests=None)
        self._config = _hypercorn_config()
        self._open: set[trio.SocketStream] = set()
        self._fewer = trio.Event()

    async def serve(self, stream: trio.SocketStream) -> None:
        self._open.add(stream)
        state = ConnectionState(cast("Any", {}))
        try:
            # hypercorn declares a TLS stream; its code accepts either.
            connection = _Http1(self._app, self._config, self._context, state, cast("Any", stream))
            await connection.run()
        finally:
            self._open.discard(stream)
            self._fewer.set()
            self._fewer = trio.Event()

    async def drain(self) -> None:
        """Close idle connections, and wait until requests have been answered."""
        await self._context.terminated.set()
        while self._open:
            await self._fewer.wait()

    def cut(self) -> None:
        """Close every connection below hypercorn, whose writes cannot be cancelled."""
        for stream in self._open:
            stream.socket.close()


class _Http1(TCPServer):
    """hypercorn's handler of one connection, without HTTP/2 and WebSocket: bad bytes break them."""

    async def run(self) -> None:
        try:
            async with TaskGroup() as handlers:
                self._task_group = handlers
                self.protocol = cast("Any", _Http1Protocol)(
                    self.app, self.config, self.context, handlers, self.state,
                    ssl=False, client=None, server=None, send=self.protocol_send,
                )  # fmt: skip
                await self.idle_task.restart(handlers, self._idle_timeout)
                await self._read_data()
        finally:
            await self._close()


class _Http1Protocol(H11Protocol):
    async def _check_protocol(self, event: Any) -> None:
        """Ignore an upgrade to HTTP/2: RFC 9110 lets a server answer in HTTP/1.1."""

    async def _create_stream(self, request: Any) -> None:
        headers = [item for item in request.headers.raw_items() if item[0].lower() != b"upgrade"]
        plain = type(request)(
            method=request.method,
            headers=headers,
            target=request.target,
            http_version=request.http_version,
        )
        await super()._create_stream(plain)


def _hypercorn_config() -> Config:
    config = Config()
    config.accesslog = config.errorlog = None  # The guard handles errors.
    config.keep_alive_timeout = KEEP_ALIVE_S
    config.keep_alive_max_requests = 2**31
    config.include_server_header = False
    return config


@contextmanager
def _bound(path: Path) -> Iterator[trio.SocketListener]:
    """Bind the socket, accessible to its owner only, and remove it at the end if it is ours."""
    name = os.fsencode(path)
    if len(name) > PATH_BYTES_MAX:
        raise InvalidRequest(
            f"the socket's path has {len(name)} bytes and Unix allows {PATH_BYTES_MAX}:"
            f" give a shorter one with MUTIRAO_SOCKET or --data ({path})"
        )
    _remove_stale(path)
    inner = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    with inner:
        _bind_private(inner, path)
        ours = path.stat()
        inner.listen(BACKLOG)
        try:
            yield trio.SocketListener(trio.socket.from_stdlib_socket(inner))
        finally:
            if path.exists() and os.path.samestat(path.stat(), ours):
                path.unlink()


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise Conflict(f"{path} is not a socket: move it away, or set another socket path")
    path.unlink()


def _bind_private(inner: socket.socket, path: Path) -> None:
    # The permissions come from the umask, so others can connect at no moment.
    before = os.umask(0o177)
    try:
        inner.bind(str(path))
    except OSError as error:
        raise DaemonUnavailable(f"cannot make the socket {path}: {error.strerror}") from None
    finally:
        os.umask(before)
