"""The API on a real socket, in the nursery of the test. Spec: specs/rpc.md."""

import json
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import trio

from node.rpc.server import serve_api
from tests.node.rpc.recorded import RecordedService

JOB = {"image": "base", "command": ["true"], "max_price": "0.5"}


@dataclass
class Answer:
    """One HTTP answer, read to its end."""

    status: int
    headers: dict[str, str]
    body: bytes
    whole: bool
    """Whether the body came to its proper end."""

    @property
    def json(self):
        return json.loads(self.body)


class Caller:
    """Speaks HTTP over the socket, a connection for each request."""

    def __init__(self, path: Path, service: RecordedService, scope: trio.CancelScope) -> None:
        self.path = path
        self.service = service
        self.scope = scope
        self.stopped = trio.Event()

    async def open(self, method: str, target: str, body: bytes | None = None, **headers: str):
        """Send a request and return the stream, its answer unread."""
        stream = await trio.open_unix_socket(self.path)
        lines = [f"{method} {target} HTTP/1.1", "host: node", "connection: close"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        if body is not None:
            lines.append(f"content-length: {len(body)}")
        await stream.send_all("\r\n".join([*lines, "", ""]).encode() + (body or b""))
        return stream

    async def ask(self, method: str, target: str, body=None, **headers: str) -> Answer:
        if body is not None and not isinstance(body, bytes):
            body, headers = (
                json.dumps(body).encode(),
                {"content_type": "application/json"} | headers,
            )
        stream = await self.open(method, target, body, **headers)
        with trio.fail_after(10):
            return await read_answer(stream)

    async def submit(self, **more) -> str:
        answer = await self.ask("POST", "/v1/jobs", JOB | more)
        assert answer.status == 201, answer.body
        return answer.json["id"]

    async def stop(self) -> float:
        """Cancel the server; return how many seconds it took to end."""
        start = trio.current_time()
        self.scope.cancel()
        with trio.fail_after(10):
            await self.stopped.wait()
        return trio.current_time() - start


async def read_answer(stream) -> Answer:
    data = b""
    async with stream:
        # A server that has not read everything resets the connection, after its answer.
        with suppress(trio.BrokenResourceError):
            async for chunk in stream:
                data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    whole = len(body) == int(headers.get("content-length", len(body)))
    if headers.get("transfer-encoding") == "chunked":
        body, whole = dechunked(body)
    return Answer(int(first.split()[1]), headers, body, whole)


def dechunked(body: bytes) -> tuple[bytes, bool]:
    parts = []
    while body:
        size, _, body = body.partition(b"\r\n")
        if int(size, 16) == 0:
            return b"".join(parts), True
        parts.append(body[: int(size, 16)])
        body = body[int(size, 16) + 2 :]
    return b"".join(parts), False


async def read_until(stream, wanted: bytes) -> bytes:
    data = b""
    with trio.fail_after(5):
        while wanted not in data:
            more = await stream.receive_some(65_536)
            assert more, f"ended without {wanted!r}: {data!r}"
            data += more
    return data


@pytest.fixture
def service(tmp_path):
    return RecordedService(tmp_path)


@pytest.fixture
async def caller(service, tmp_path, nursery):
    scope = trio.CancelScope()
    caller = Caller(tmp_path / "api.sock", service, scope)

    async def serve(task_status=trio.TASK_STATUS_IGNORED):
        with scope:
            try:
                await serve_api(service.as_service(), caller.path, task_status=task_status)
            finally:
                caller.stopped.set()

    await nursery.start(partial(serve))
    yield caller
    await caller.stop()
