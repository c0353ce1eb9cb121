"""The proxy of a job, with a real server on the loopback.

Spec: specs/egress.md#proxy.
"""

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

import pytest
import trio
import trio.testing

from node.data.throttle import Throttle
from node.egress import proxy as module
from node.egress.addresses import Address
from node.egress.proxy import Proxy, ProxyUse, Rules

LOOPBACK = (ip_network("127.0.0.0/8"),)
NAME = "data.example.org"


@dataclass
class Server:
    """A server that answers each piece in capitals, and its proxy."""

    port: int
    proxy_port: int = 0
    uses: list[ProxyUse] = field(default_factory=list)
    ended: trio.Event = field(default_factory=trio.Event)
    looked_up: list[str] = field(default_factory=list)

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.proxy_port)

    async def ask(self, head: str) -> bytes:
        """Return everything that the proxy answers."""
        async with await self.connect() as stream:
            await stream.send_all(f"{head}\r\n\r\n".encode())
            return b"".join([piece async for piece in stream])

    async def refuse(self, head: str) -> tuple[int, str]:
        answer = (await self.ask(head)).decode()
        first, _, rest = answer.partition("\r\n")
        body = rest.partition("\r\n\r\n")[2]
        assert body.startswith("mutirao: ")
        return int(first.split()[1]), body.removeprefix("mutirao: ").strip()


async def _answer(stream: trio.SocketStream) -> None:
    async with stream:
        with suppress(trio.BrokenResourceError):
            async for piece in stream:
                await stream.send_all(piece.upper())
            await stream.send_eof()


@asynccontextmanager
async def serving(
    rules: Rules,
    wanted: tuple[str, ...] = (NAME,),
    at: str = "127.0.0.1",
    of_all: int = 128,
) -> AsyncIterator[Server]:
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, _answer, 0)
        server = Server(listeners[0].socket.getsockname()[1])

        async def find(name: str, _port: int) -> list[Address]:
            server.looked_up.append(name)
            if name == "nowhere.example.org":
                raise OSError
            return [ip_address(text) for text in at.split()]

        def note(use: ProxyUse) -> None:
            server.uses.append(use)
            server.ended.set()

        ports = (*rules.ports, server.port)
        allowed = Rules(rules.names, ports, rules.networks, rules.bytes_max)
        served = Proxy(wanted, allowed, Throttle(0), note, find, trio.Semaphore(of_all))
        listener = socket.create_server(("127.0.0.1", 0))
        server.proxy_port = listener.getsockname()[1]
        nursery.start_soon(served.serve, listener)
        with trio.fail_after(20):
            yield server
        nursery.cancel_scope.cancel()


async def test_connect_passes_bytes_in_both_ways_and_their_ends() -> None:
    async with serving(Rules((NAME,), networks=LOOPBACK)) as server:
        async with await server.connect() as stream:
            # The first bytes may come with the head.
            head = f"CONNECT {NAME}:{server.port} HTTP/1.1\r\n\r\nhello"
            await stream.send_all(head.encode())
            await stream.send_eof()
            answer = b"".join([piece async for piece in stream])
        await server.ended.wait()
        assert answer == b"HTTP/1.1 200 Connection established\r\n\r\nHELLO"
        assert server.uses == [ProxyUse(NAME, server.port, 5, 5)]


async def test_a_plain_request_is_passed_on() -> None:
    async with serving(Rules(("any",), networks=LOOPBACK), wanted=("any",)) as server:
        async with await server.connect() as stream:
            await stream.send_all(f"GET http://{NAME}:{server.port}/x HTTP/1.1\r\n\r\n".encode())
            await stream.send_eof()
            answer = b"".join([piece async for piece in stream])
        assert answer.startswith(b"GET /X HTTP/1.1\r\nHOST: DATA.EXAMPLE.ORG")


async def test_each_check_refuses_with_its_reason() -> None:
    rules = Rules((NAME, "private.example.org", "nowhere.example.org"), networks=())
    wanted = (NAME, "private.example.org", "nowhere.example.org", "other.example.org")
    async with serving(rules, wanted, at="1.1.1.1 10.0.0.1") as server:
        port = server.port
        assert await server.refuse(f"CONNECT evil.org:{port} HTTP/1.1") == (
            403, "evil.org is not among the names that the job asked for",
        )  # fmt: skip
        assert await server.refuse(f"CONNECT other.example.org:{port} HTTP/1.1") == (
            403, "the owner of this node does not allow other.example.org",
        )  # fmt: skip
        assert (await server.refuse(f"CONNECT {NAME}:22 HTTP/1.1"))[0] == 403
        assert server.looked_up == []  # A name is looked up only if the job may reach it.
        assert await server.refuse(f"CONNECT private.example.org:{port} HTTP/1.1") == (
            403, "private.example.org is at 10.0.0.1, which is not a public address",
        )  # fmt: skip
        assert await server.refuse(f"CONNECT nowhere.example.org:{port} HTTP/1.1") == (
            502, "nowhere.example.org has no address",
        )  # fmt: skip
        assert (await server.refuse("GET / HTTP/1.1"))[0] == 400
        assert (await server.refuse("x" * 20_000))[0] == 400
        refused = [use.refused for use in server.uses]
        assert len(refused) == 5
        assert all(refused)


async def test_a_name_that_nobody_serves() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    rules = Rules((NAME,), (port,), LOOPBACK)
    async with serving(rules) as server:
        status, why = await server.refuse(f"CONNECT {NAME}:{port} HTTP/1.1")
        assert (status, why) == (502, f"{NAME} does not accept connections on port {port}")


async def test_an_address_needs_any_and_is_checked_too() -> None:
    async with serving(Rules(("any",)), wanted=("any",)) as server:
        for host in ("127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254"):
            status, why = await server.refuse(f"CONNECT {host}:{server.port} HTTP/1.1")
            assert (status, "not a public address" in why) == (403, True)
    async with serving(Rules(("any",))) as server:
        assert (await server.refuse(f"CONNECT 1.1.1.1:{server.port} HTTP/1.1"))[0] == 403


async def test_the_volume_of_a_job_ends_its_connections() -> None:
    async with serving(Rules((NAME,), networks=LOOPBACK, bytes_max=2**20)) as server:
        async with await server.connect() as stream:
            await stream.send_all(f"CONNECT {NAME}:{server.port} HTTP/1.1\r\n\r\n".encode())
            received = 0

            async def send() -> None:
                with suppress(trio.BrokenResourceError):
                    while True:
                        await stream.send_all(bytes(2**16))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(send)
                with suppress(trio.BrokenResourceError):
                    async for piece in stream:
                        received += len(piece)
        await server.ended.wait()
        assert received < 2**20
        assert server.uses[0].sent + server.uses[0].received <= 2**20
        assert "used its 1 MiB" in server.uses[0].refused
        status, why = await server.refuse(f"CONNECT {NAME}:{server.port} HTTP/1.1")
        assert (status, why) == (403, "the job has used its 1 MiB")


@pytest.mark.parametrize("of_job,of_all", [(1, 9), (9, 1)])
async def test_too_many_connections_wait(
    monkeypatch: pytest.MonkeyPatch, of_job: int, of_all: int
) -> None:
    monkeypatch.setattr(module, "CONNECTIONS_MAX", of_job)
    async with serving(Rules((NAME,), networks=LOOPBACK), of_all=of_all) as server:
        first = await server.connect()
        await first.send_all(f"CONNECT {NAME}:{server.port} HTTP/1.1\r\n\r\n".encode())
        assert b"200" in await first.receive_some()
        async with trio.open_nursery() as nursery:
            answers = []

            async def ask() -> None:
                answers.append(await server.refuse("CONNECT evil.org:443 HTTP/1.1"))

            nursery.start_soon(ask)
            await first.send_all(b"still served")
            assert await first.receive_some() == b"STILL SERVED"
            assert answers == []
            await first.aclose()
        assert answers[0][0] == 403


async def test_silent_and_slow_programs_are_not_waited_for(
    autojump_clock: trio.testing.MockClock,
) -> None:
    await _times_out(lambda stream: stream.send_all(b"GET "), b" 408 ", module.HEAD_S)


async def _times_out(
    begin: Callable[[trio.SocketStream], Awaitable[None]], status: bytes, after_s: float
) -> None:
    async with serving(Rules()) as server, await server.connect() as stream:
        await begin(stream)
        start_s = trio.current_time()
        answer = await stream.receive_some()
        assert status in answer
        assert trio.current_time() - start_s == pytest.approx(after_s)


async def test_a_connection_without_traffic_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "IDLE_S", 0.05)
    async with serving(Rules((NAME,), networks=LOOPBACK)) as server:
        answer = await server.ask(f"CONNECT {NAME}:{server.port} HTTP/1.1")
        assert answer.startswith(b"HTTP/1.1 200")
