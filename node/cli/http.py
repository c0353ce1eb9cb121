"""HTTP/1.1 for callers of the daemon: one request, one answer, over one Unix socket.

It uses h11, a dependency of hypercorn, whose import takes half the time of http.client's.
Spec: specs/rpc.md#connections.
"""

import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

import h11

CHUNK_BYTES: Final = 2**18

Body = bytes | Iterable[bytes]


class BadResponse(ConnectionError):
    """The answer is incomplete or not HTTP: the daemon stopped, or it is another program."""


class Response:
    """An answer: a status, and a body that is read as it arrives."""

    def __init__(self, sock: socket.socket, protocol: h11.Connection) -> None:
        """Read up to the body; raise BadResponse if that is no HTTP."""
        self._socket = sock
        self._protocol = protocol
        event = self._event()
        while isinstance(event, h11.InformationalResponse):
            event = self._event()
        self.status = int(event.status_code)

    def chunks(self) -> Iterator[bytes]:
        """Yield the body as it comes; BadResponse if it ends too early."""
        while isinstance(event := self._event(), h11.Data):
            yield bytes(event.data)

    def body(self) -> bytes:
        """Return the whole body; BadResponse if it ends too early."""
        return b"".join(self.chunks())

    def lines(self) -> Iterator[bytes]:
        """Yield the body line by line, without the ends of the lines."""
        rest = b""
        for data in self.chunks():
            *whole, rest = (rest + data).split(b"\n")
            yield from whole

    def _event(self) -> Any:
        try:
            while (event := self._protocol.next_event()) is h11.NEED_DATA:
                self._protocol.receive_data(self._socket.recv(CHUNK_BYTES))
        except h11.RemoteProtocolError as error:
            raise BadResponse(str(error)) from None
        if isinstance(event, h11.ConnectionClosed):
            raise BadResponse("no answer")
        return event


def ask(
    sock: socket.socket, method: str, path: str, headers: Mapping[str, str], body: Body = b""
) -> Response:
    """Send a request and return its answer; ConnectionError or TimeoutError without one.

    A body of chunks needs the header "content-length".
    """
    given = {"host": "localhost", "connection": "close", **headers}
    if isinstance(body, bytes):
        given["content-length"] = str(len(body))
    protocol = h11.Connection(h11.CLIENT)
    head = h11.Request(method=method, target=path, headers=list(given.items()))
    # If the daemon answers before it has read everything, its answer states the reason.
    with suppress(BrokenPipeError, ConnectionResetError):
        sock.sendall(protocol.send(head) or b"")
        for chunk in (body,) if isinstance(body, bytes) else body:
            sock.sendall(protocol.send(h11.Data(data=chunk)) or b"")
        sock.sendall(protocol.send(h11.EndOfMessage()) or b"")
    return Response(sock, protocol)
