"""A client of the daemon's API: HTTP over its Unix socket.

Spec: specs/rpc.md#routes.
"""

import json
import os
import socket
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from node.cli.failure import CliError
from node.cli.http import Body, Response, ask
from node.cli.starting import LOCK_NAME, connect, is_claimed

PREFIX: Final = "/v1"
PATH_BYTES_MAX: Final = 107
ANSWER_S: Final = 30.0
"""How long an ordinary answer may take."""
LONG_S: Final = 3600.0
"""How long an image or a big input may take."""
SILENCE_S: Final = 45.0
"""An event stream sends something every 10 s; after this long without it, the daemon hangs."""


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One server-sent event."""

    kind: str
    data: dict[str, Any]


class Connection:
    """Asks the daemon on one socket. Every method raises CliError if it does not get an answer."""

    def __init__(self, path: Path, lock: Path | None = None) -> None:
        """Store the paths of the socket and of the daemon's lock, which is beside it by default."""
        self.path = Path(path)
        self._lock = lock or self.path.with_name(LOCK_NAME)
        self._open: set[socket.socket] = set()

    def interrupt(self) -> None:
        """Make all waiting calls, in any thread, fail at once."""
        for sock in tuple(self._open):
            with suppress(OSError):  # It may have been closed a moment ago, in the other thread.
                sock.shutdown(socket.SHUT_RDWR)

    def get(self, path: str, **query: Any) -> Any:
        """Return the JSON at a path below /v1."""
        with self._asking("GET", with_query(path, query)) as answer:
            return json.loads(answer.body())

    def post(
        self, path: str, body: Any = None, headers: Mapping[str, str] | None = None,
        timeout_s: float = ANSWER_S,
    ) -> Any:  # fmt: skip
        """Send JSON to a path below /v1 and return the JSON answer."""
        data = b"" if body is None else json.dumps(body).encode()
        sent = {"content-type": "application/json", **(headers or {})}
        with self._asking("POST", path, data, sent, timeout_s) as answer:
            return json.loads(answer.body())

    def lines(self, path: str, body: Any) -> Iterator[dict[str, Any]]:
        """Send JSON and yield the lines of the answer; CliError if they end with an error."""
        data, sent = json.dumps(body).encode(), {"content-type": "application/json"}
        with self._asking("POST", path, data, sent, LONG_S) as answer:
            for line in answer.lines():
                found = json.loads(line)
                if error := found.get("error"):
                    raise CliError(error["code"], error["detail"])
                yield found

    def upload(self, path: str, chunks: Iterable[bytes], size: int) -> Any:
        """Send `size` bytes and return the JSON answer."""
        headers = {"content-length": str(size), "content-type": "application/octet-stream"}
        with self._asking("POST", path, chunks, headers, LONG_S) as answer:
            return json.loads(answer.body())

    def download(
        self, path: str, timeout_s: float | None = LONG_S, **query: Any
    ) -> Generator[bytes, None, None]:
        """Yield the bytes at a path as they come; CliError if they end too early."""
        with self._asking("GET", with_query(path, query), timeout_s=timeout_s) as answer:
            yield from answer.chunks()

    def events(self, path: str, after: int = 0) -> Iterator[ServerEvent]:
        """Yield a job's events until it has ended; CliError if the daemon goes first."""
        headers = {"last-event-id": str(after)}
        with self._asking("GET", path, headers=headers, timeout_s=SILENCE_S) as answer:
            for event in parse_events(answer.lines()):
                if event.kind == "end":
                    return
                if event.kind == "error":
                    raise CliError(event.data["code"], event.data["detail"])
                if event.kind == "bye":
                    break
                yield event
        raise CliError("daemon-unavailable", "the daemon stopped", AGAIN)

    @contextmanager
    def _asking(
        self, method: str, path: str, body: Body = b"",
        headers: Mapping[str, str] | None = None, timeout_s: float | None = ANSWER_S,
    ) -> Iterator[Response]:  # fmt: skip
        sock = self._connected(timeout_s)
        self._open.add(sock)
        try:
            answer = ask(sock, method, PREFIX + path, headers or {}, body)
            if answer.status >= 400:
                raise _failure_of(answer)
            yield answer
        except TimeoutError:
            raise CliError(
                "daemon-unavailable", f"the daemon on {self.path} does not answer",
                "check its log; it may be overloaded or hung",
            ) from None  # fmt: skip
        except ConnectionError:
            raise CliError("daemon-unavailable", "the daemon stopped", AGAIN) from None
        finally:
            self._open.discard(sock)
            sock.close()

    def _connected(self, timeout_s: float | None) -> socket.socket:
        if len(os.fsencode(self.path)) > PATH_BYTES_MAX:
            raise CliError(
                "daemon-unavailable",
                f"the socket's path has over {PATH_BYTES_MAX} bytes, the limit of Unix sockets",
                "give the node a shorter one with MUTIRAO_SOCKET",
            )
        try:
            return connect(self.path, self._lock, timeout_s)
        except OSError as error:
            starts = "it has not started yet: check its log, or try again"
            hint = starts if is_claimed(self._lock) else ""
            detail = f"no daemon answers on {self.path} ({error.strerror or error})"
            raise CliError("daemon-unavailable", detail, hint) from None


AGAIN: Final = "jobs continue when it runs again: start it with `mutirao up`"
NO_PEERS: Final = (
    "no peers: start this node with the address of another node, which the other one prints at"
    " its start: mutirao up --bootstrap /ip4/…/tcp/4788/p2p/…"
)
"""What to do about a node without peers."""


def with_query(path: str, query: Mapping[str, Any]) -> str:
    """Return the path with the parts of the query that are not None."""
    given = {name: value for name, value in query.items() if value is not None}
    if not given:
        return path
    from urllib.parse import urlencode

    return f"{path}?{urlencode(given)}"


def quoted(part: str) -> str:
    """Return text as one part of a path."""
    from urllib.parse import quote

    return quote(part, safe="")


def parse_events(lines: Iterable[bytes]) -> Iterator[ServerEvent]:
    """Yield the events in the lines of an SSE stream, which come without their ends."""
    kind, data = "message", ""
    for line in lines:
        name, _, value = line.decode().partition(": ")
        if name == "event":
            kind = value
        elif name == "data":
            data = value
        elif not name and data:
            yield ServerEvent(kind, json.loads(data))
            kind, data = "message", ""


def _failure_of(answer: Response) -> CliError:
    body = answer.body()
    try:
        problem = json.loads(body)
        return CliError(problem["code"], problem["detail"])
    except (ValueError, KeyError, TypeError):
        return CliError("failure", f"the daemon answered {answer.status} without a reason")
