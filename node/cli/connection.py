"""The daemon's API as the command line uses it: the standard library's HTTP over a Unix socket.

Spec: specs/rpc.md#routes.
"""

import http.client
import json
import os
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

from node.cli.failure import Failure

PREFIX: Final = "/v1"
PATH_BYTES_MAX: Final = 107
ANSWER_S: Final = 30.0
"""How long an ordinary answer may take."""
LONG_S: Final = 3600.0
"""How long an image or a big input may take."""
SILENCE_S: Final = 45.0
"""An event stream says a word every 10 s; after this long without one, the daemon hangs."""
CHUNK_BYTES: Final = 2**18

Answer = http.client.HTTPResponse


@dataclass(frozen=True, slots=True)
class Happening:
    """One server-sent event."""

    kind: str
    data: dict[str, Any]


class Connection:
    """Asks the daemon on one socket. Every method raises Failure if it does not get an answer."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open: set[_UnixConnection] = set()

    def interrupt(self) -> None:
        """Make whatever waits for the daemon, in any thread, fail at once."""
        for inner in tuple(self._open):
            inner.interrupt()

    def get(self, path: str, **query: Any) -> Any:
        """Return the JSON at a path below /v1."""
        with self._asking("GET", with_query(path, query)) as answer:
            return json.load(answer)

    def post(
        self, path: str, body: Any = None, headers: Mapping[str, str] | None = None,
        timeout_s: float = ANSWER_S,
    ) -> Any:  # fmt: skip
        """Send JSON to a path below /v1 and return the JSON that comes back."""
        data = None if body is None else json.dumps(body).encode()
        sent = {"content-type": "application/json", **(headers or {})}
        with self._asking("POST", path, data, sent, timeout_s) as answer:
            return json.load(answer)

    def upload(self, path: str, chunks: Iterable[bytes], size: int) -> Any:
        """Send bytes, of which there are `size`, and return the JSON that comes back."""
        headers = {"content-length": str(size), "content-type": "application/octet-stream"}
        with self._asking("POST", path, chunks, headers, LONG_S) as answer:
            return json.load(answer)

    def download(
        self, path: str, timeout_s: float | None = LONG_S, **query: Any
    ) -> Iterator[bytes]:
        """Yield the bytes at a path as they come; Failure if they end too early."""
        with self._asking("GET", with_query(path, query), timeout_s=timeout_s) as answer:
            while chunk := answer.read1(CHUNK_BYTES):
                yield chunk

    def events(self, path: str, after: int = 0) -> Iterator[Happening]:
        """Yield a job's events until it has ended; Failure if the daemon goes first."""
        headers = {"last-event-id": str(after)}
        with self._asking("GET", path, headers=headers, timeout_s=SILENCE_S) as answer:
            for event in parse_events(answer):
                if event.kind == "end":
                    return
                if event.kind == "error":
                    raise Failure(event.data["code"], event.data["detail"])
                if event.kind == "bye":
                    break
                yield event
        raise Failure("daemon-unavailable", "the daemon stopped", AGAIN)

    @contextmanager
    def _asking(
        self, method: str, path: str, body: Any = None,
        headers: Mapping[str, str] | None = None, timeout_s: float | None = ANSWER_S,
    ) -> Iterator[Answer]:  # fmt: skip
        inner = _UnixConnection(self.path, timeout_s)
        self._open.add(inner)
        try:
            answer = _ask(inner, method, PREFIX + path, body, headers or {})
            if answer.status >= 400:
                raise _failure_of(answer)
            yield answer
        except TimeoutError:
            raise Failure(
                "daemon-unavailable", f"the daemon on {self.path} does not answer",
                "look at its log; it may be overloaded or hang",
            ) from None  # fmt: skip
        except (ConnectionError, http.client.HTTPException):
            raise Failure("daemon-unavailable", "the daemon stopped", AGAIN) from None
        finally:
            self._open.discard(inner)
            inner.close()


AGAIN: Final = "jobs go on when it runs again: start it with `mutirao up`"


def with_query(path: str, query: Mapping[str, Any]) -> str:
    """Return the path with the parts of the query that are not None."""
    given = {name: value for name, value in query.items() if value is not None}
    return f"{path}?{urlencode(given)}" if given else path


def quoted(part: str) -> str:
    """Return text as one part of a path."""
    return quote(part, safe="")


def parse_events(lines: Iterable[bytes]) -> Iterator[Happening]:
    """Yield the events in the lines of an SSE stream."""
    kind, data = "message", ""
    for line in lines:
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if name == "event":
            kind = value
        elif name == "data":
            data = value
        elif not name and data:
            yield Happening(kind, json.loads(data))
            kind, data = "message", ""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float | None) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path
        self._raw: socket.socket | None = None

    def connect(self) -> None:
        if len(os.fsencode(self._path)) > PATH_BYTES_MAX:
            raise Failure(
                "daemon-unavailable",
                f"the socket's path has over {PATH_BYTES_MAX} bytes, the limit of Unix sockets",
                "give the node a shorter one with MUTIRAO_SOCKET",
            )
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self._raw = self.sock
        try:
            self.sock.connect(str(self._path))
        except OSError as error:
            raise _unreachable(self._path, error) from None

    def interrupt(self) -> None:
        # The socket outlives http.client's own reference to it while an answer is being read.
        if self._raw is not None:
            with suppress(OSError):  # It may have been closed a moment ago, in the other thread.
                self._raw.shutdown(socket.SHUT_RDWR)


def _ask(
    inner: _UnixConnection, method: str, path: str, body: Any, headers: Mapping[str, str]
) -> Answer:
    try:
        inner.request(method, path, body, headers)
    except (BrokenPipeError, ConnectionResetError):
        # The daemon answered before it had read everything: the answer says why.
        return inner.getresponse()
    return inner.getresponse()


def _unreachable(path: Path, error: OSError) -> Failure:
    return Failure("daemon-unavailable", f"no daemon answers on {path} ({error.strerror or error})")


def _failure_of(answer: Answer) -> Failure:
    body = answer.read()
    try:
        problem = json.loads(body)
        return Failure(problem["code"], problem["detail"])
    except (ValueError, KeyError, TypeError):
        return Failure("failure", f"the daemon answered {answer.status} without a reason")
