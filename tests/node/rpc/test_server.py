"""The socket, the drain, the bug that stops the node. Spec: specs/rpc.md#connections."""

import random
import socket
import stat
from contextlib import suppress

import pytest
import trio

from node.rpc.server import PATH_BYTES_MAX, serve_api
from protocol.values.errors import Conflict, DaemonUnavailable, InvalidRequest
from tests.node.rpc.conftest import read_until


async def test_only_the_owner_may_connect(caller):
    mode = caller.path.stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    assert (await caller.ask("GET", "/v1/status")).status == 200


async def test_many_requests_on_one_connection(caller):
    stream = await trio.open_unix_socket(caller.path)
    async with stream:
        for _ in range(3):
            await stream.send_all(b"GET /v1/peers HTTP/1.1\r\nhost: node\r\n\r\n")
            assert b"127.0.0.1" in await read_until(stream, b"]")


async def test_stops_at_once_when_idle_and_removes_the_socket(caller):
    kept = await trio.open_unix_socket(caller.path)
    await kept.send_all(b"GET /v1/peers HTTP/1.1\r\nhost: node\r\n\r\n")
    await read_until(kept, b"]")
    assert await caller.stop() < 0.5
    assert not caller.path.exists()
    await kept.aclose()


async def test_a_caller_that_does_not_read_cannot_keep_the_node_from_stopping(caller):
    job_id = await caller.submit()
    caller.service.say(job_id, bytes(8 * 2**20))
    deaf = await caller.open("GET", f"/v1/jobs/{job_id}/logs?follow=1")
    with trio.fail_after(5):
        while not caller.service.open_streams:
            await trio.testing.wait_all_tasks_blocked()
    assert await caller.stop() < 1.9
    await deaf.aclose()


async def test_a_request_is_answered_before_the_end(caller, nursery):
    gate = trio.Event()

    async def slow(chunks):
        await gate.wait()
        return await type(caller.service).put_blob(caller.service, chunks)

    caller.service.put_blob = slow
    stream = await caller.open("POST", "/v1/blobs", b"abc")
    await trio.testing.wait_all_tasks_blocked(0.01)
    nursery.start_soon(caller.stop)
    await trio.testing.wait_all_tasks_blocked(0.01)
    gate.set()
    assert b"201" in await read_until(stream, b"size")
    await stream.aclose()


@pytest.mark.parametrize("offer", ["websocket", "h2c"])
async def test_an_offer_of_another_protocol_is_answered_in_http_1(caller, offer):
    more = {
        "upgrade": offer, "sec_websocket_version": "13", "http2_settings": "AAMAAABkAAQAAP__",
        "sec_websocket_key": "MDEyMzQ1Njc4OWFiY2RlZg==",
    }  # fmt: skip
    stream = await trio.open_unix_socket(caller.path)
    lines = ["GET /v1/peers HTTP/1.1", "host: n", "connection: upgrade, http2-settings"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in more.items()]
    await stream.send_all("\r\n".join([*lines, "", ""]).encode())
    data = await read_until(stream, b"]")
    assert data.startswith(b"HTTP/1.1 200")
    await stream.aclose()


async def test_random_bytes_do_not_stop_the_node(caller):
    chance = random.Random(7)
    for _ in range(150):
        data = bytearray(b"".join(chance.choice(REQUESTS) for _ in range(chance.randint(1, 3))))
        for _ in range(chance.randint(0, 6)):
            place = chance.randrange(len(data))
            data[place : place + chance.randint(0, 3)] = chance.randbytes(chance.randint(1, 3))
        stream = await trio.open_unix_socket(caller.path)
        with suppress(trio.BrokenResourceError):
            await stream.send_all(bytes(data))
            await stream.send_eof()
            with trio.move_on_after(0.5):
                while await stream.receive_some():
                    pass
        await stream.aclose()
    assert (await caller.ask("GET", "/v1/peers")).status == 200


CHUNKED = b"POST /v1/blobs HTTP/1.1\r\nhost: n\r\ntransfer-encoding: chunked\r\n\r\n"
SOCKET = b"upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: MDEyMzQ1Ng==\r\n"
HTTP_2 = b"upgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n"
REQUESTS = [
    b"GET /v1/status HTTP/1.1\r\nhost: n\r\n\r\n",
    b"GET /v1/jobs/aaaaaa/events HTTP/1.1\r\nhost: n\r\nlast-event-id: 3\r\n\r\n",
    CHUNKED + b"3\r\nabc\r\n0\r\n\r\n",
    b"POST /v1/images HTTP/1.1\r\nhost: n\r\ncontent-length: 12\r\n\r\n" + b'{"path":"/"}',
    b"GET / HTTP/1.1\r\nhost: n\r\nconnection: upgrade\r\n" + SOCKET + b"\r\n",
    b"GET / HTTP/1.1\r\nhost: n\r\nconnection: upgrade, http2-settings\r\n" + HTTP_2 + b"\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
]


async def test_a_stale_socket_is_replaced(service, tmp_path, nursery):
    path = tmp_path / "api.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    await nursery.start(serve_api, service.as_service(), path)
    async with await trio.open_unix_socket(path):
        pass
    nursery.cancel_scope.cancel()


async def test_what_is_no_socket_is_left_alone(service, tmp_path):
    path = tmp_path / "api.sock"
    path.write_text("precious")
    with pytest.raises(Conflict, match="not a socket"):
        await serve_api(service.as_service(), path)
    assert path.read_text() == "precious"


async def test_a_path_that_is_too_long_names_the_limit(service, tmp_path):
    path = tmp_path / ("d" * PATH_BYTES_MAX) / "api.sock"
    with pytest.raises(InvalidRequest, match=r"bytes and Unix allows 107.*--data"):
        await serve_api(service.as_service(), path)


async def test_the_longest_path_works(service, tmp_path, nursery):
    room = PATH_BYTES_MAX - len(str(tmp_path)) - 1
    path = tmp_path / ("s" * room)
    await nursery.start(serve_api, service.as_service(), path)
    nursery.cancel_scope.cancel()


async def test_a_folder_that_is_not_there(service, tmp_path):
    with pytest.raises(DaemonUnavailable, match="cannot make the socket"):
        await serve_api(service.as_service(), tmp_path / "none" / "api.sock")


async def test_a_socket_that_is_another_nodes_by_now_is_left_alone(caller, tmp_path):
    caller.path.rename(tmp_path / "moved")
    caller.path.write_text("another's")
    await caller.stop()
    assert caller.path.exists()


async def test_a_bug_is_answered_and_stops_the_node(service, tmp_path):
    path = tmp_path / "api.sock"
    service.bug = ZeroDivisionError("a bug")
    answers = []

    async def ask():
        stream = await trio.open_unix_socket(path)
        await stream.send_all(b"GET /v1/status HTTP/1.1\r\nhost: n\r\n\r\n")
        answers.append(await read_until(stream, b'"code":"internal"'))
        await stream.aclose()

    with pytest.RaisesGroup(ZeroDivisionError), trio.fail_after(5):
        async with trio.open_nursery() as inner:
            await inner.start(serve_api, service.as_service(), path)
            inner.start_soon(ask)
    assert b" 500 " in answers[0]
    assert not path.exists()
