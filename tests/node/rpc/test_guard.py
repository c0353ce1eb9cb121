"""Departures, big bodies and bugs. Spec: specs/rpc.md#connections."""

from contextlib import suppress

import pytest
import trio

from node.rpc.guard import BODY_BYTES_MAX, Guard
from tests.node.rpc.conftest import read_answer


async def wait_until(condition):
    with trio.fail_after(5):
        while not condition():
            await trio.testing.wait_all_tasks_blocked()


async def test_a_caller_that_leaves_cancels_its_handler_at_once(caller):
    seen = []

    async def forever():
        seen.append("started")
        try:
            await trio.sleep_forever()
        finally:
            seen.append("ended")

    caller.service.build_base = forever
    stream = await caller.open("POST", "/v1/images/base")
    await wait_until(lambda: seen == ["started"])
    await stream.aclose()
    await wait_until(lambda: seen == ["started", "ended"])


async def test_a_caller_that_leaves_in_the_middle_of_its_body(caller):
    got, ended = [], trio.Event()

    async def keep(chunks):
        try:
            async for chunk in chunks:
                got.append(chunk)
        finally:
            ended.set()

    caller.service.put_blob = keep
    stream = await trio.open_unix_socket(caller.path)
    await stream.send_all(b"POST /v1/blobs HTTP/1.1\r\nhost: n\r\ncontent-length: 99\r\n\r\nabc")
    await wait_until(lambda: got == [b"abc"])
    await stream.aclose()
    with trio.fail_after(5):
        await ended.wait()
    assert (await caller.ask("GET", "/v1/peers")).status == 200


async def test_a_body_that_is_too_large_is_refused_early(caller):
    stream = await trio.open_unix_socket(caller.path)
    head = f"POST /v1/jobs HTTP/1.1\r\nhost: n\r\ncontent-length: {2 * BODY_BYTES_MAX}\r\n\r\n"
    with trio.fail_after(5):
        await stream.send_all(head.encode())
        with suppress(trio.BrokenResourceError):  # The answer lies in our buffer all the same.
            await stream.send_all(bytes(BODY_BYTES_MAX + 2**20))
        answer = await read_answer(stream)
    assert (answer.status, answer.json["code"]) == (413, "too-large")


async def test_a_handler_that_answers_before_the_body_is_read(caller):
    async def refuse(chunks):
        from protocol.values.errors import StorageFull

        raise StorageFull("no room: free some space")

    caller.service.put_blob = refuse
    stream = await trio.open_unix_socket(caller.path)
    head = f"POST /v1/blobs HTTP/1.1\r\nhost: n\r\ncontent-length: {2**26}\r\n\r\n"
    with trio.fail_after(5):
        with suppress(trio.BrokenResourceError):
            await stream.send_all(head.encode() + bytes(2**20))
        answer = await read_answer(stream)
    assert (answer.status, answer.json["detail"]) == (507, "no room: free some space")
    assert (await caller.ask("GET", "/v1/peers")).status == 200


async def test_a_large_blob_passes(caller):
    data = bytes(range(256)) * 2**16
    answer = await caller.ask("POST", "/v1/blobs", data)
    assert answer.json["size"] == len(data) > BODY_BYTES_MAX
    assert caller.service.blobs[answer.json["digest"]] == data


@pytest.mark.parametrize(
    "body",
    [
        b'{"\\ud800": 1}',
        b'{"path": "\\ud800"}',
        b'{"path": "/a\\u0000"}',
        b'{"image": "base", "command": ["\\ud800"], "max_price": "9e999999"}',
        b"[" * 100_000,
        b"1" * 5000,
        b"\xff",
        b"NaN",
    ],
)
@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/images"])
async def test_strange_bodies_are_refused_and_the_node_goes_on(caller, path, body):
    answer = await caller.ask("POST", path, body, content_type="application/json")
    assert answer.status in {400, 422}
    assert answer.json["code"] == "invalid-request"
    assert (await caller.ask("GET", "/v1/peers")).status == 200


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\xff" * 5000, b"GET", b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nhost: n\r\n\r\n",
        b"GET /%ff%ed%a0%80?a=%ff HTTP/1.1\r\nhost: n\r\nconnection: close\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 100,
        b"POST /v1/jobs HTTP/1.1\r\nhost: n\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"GET /v1/jobs HTTP/1.1\r\nhost: n\r\nidempotency-key: \xff\r\nlast-event-id: x\r\n\r\n",
        b"GET /" + b"a" * 100_000,
    ],
)  # fmt: skip
async def test_bytes_that_are_no_request_leave_the_node_alone(caller, data):
    stream = await trio.open_unix_socket(caller.path)
    with suppress(trio.BrokenResourceError):
        await stream.send_all(data)
        await stream.send_eof()
        with trio.move_on_after(2):
            while await stream.receive_some():
                pass
    await stream.aclose()
    assert (await caller.ask("GET", "/v1/peers")).status == 200


async def test_a_bug_is_kept():
    async def app(scope, receive, send):
        raise ZeroDivisionError

    async def receive():
        return {"type": "http.disconnect"}

    guard = Guard(app)
    await guard({"type": "http", "path": "/"}, receive, None)
    assert guard.failed.is_set()
    assert isinstance(guard.error, ZeroDivisionError)
