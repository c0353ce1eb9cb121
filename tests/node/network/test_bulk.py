"""Bulk connections: who has a ticket gets a TLS connection with the peer that gave it.

Spec: specs/network.md#bulk-connections.
"""

import socket
import threading
from dataclasses import replace
from functools import partial

import pytest
import trio

from node.network.bulk import PROTOCOL, Ticket
from node.network.bulk_certificate import dialling_context, pin_of
from node.network.bulk_connection import BLOCK
from node.network.interface import BulkUnavailable
from protocol.values.errors import PeerUnreachable
from tests.node.network.fixtures import PATIENT, WAIT_S, open_node


def echo(connection) -> None:
    """Send back 16 bytes, as often as they come."""
    data = memoryview(bytearray(16))
    while connection.fill_or_end(data):
        connection.send(data)


def ask(connection) -> bytes:
    answer = bytearray(16)
    connection.send(b"sixteen bytes ..")
    connection.fill(memoryview(answer))
    return bytes(answer)


@pytest.fixture
async def pair():
    """A holder, and a node that has dialled it."""
    async with (
        open_node("holder") as holder,
        open_node("fetcher", *holder.addresses()) as fetcher,
    ):
        holder.on_stream(PROTOCOL, partial(holder.bulk.serve, echo))
        fetcher.on_stream(PROTOCOL, partial(fetcher.bulk.serve, echo))
        await fetcher.reach(holder.peer_id)
        yield holder, fetcher


async def test_bytes_go_both_ways_whoever_dialled(pair) -> None:
    holder, fetcher = pair
    with trio.fail_after(WAIT_S):
        assert await fetcher.bulk.call(holder.peer_id, ask) == b"sixteen bytes .."
        assert await holder.bulk.call(fetcher.peer_id, ask) == b"sixteen bytes .."
        assert fetcher.traffic().bytes_sent >= 16


async def ticket_of(fetcher, holder) -> tuple[Ticket, object]:
    stream = await fetcher.open_stream(holder.peer_id, PROTOCOL)
    return Ticket.decode(await stream.read_exactly(Ticket.SIZE)), stream


def shown(port: int, token: bytes) -> bytes:
    """Connect, show a token, and return what an echo says."""
    raw = socket.create_connection(("127.0.0.1", port), timeout=WAIT_S)
    with dialling_context().wrap_socket(raw) as tls:
        assert tls.version() == "TLSv1.3"
        try:
            tls.sendall(token)
            tls.sendall(b"0123456789abcdef")
            return tls.recv(16)
        except OSError:
            return b""


async def test_a_token_is_used_once_and_cannot_be_guessed(pair) -> None:
    holder, fetcher = pair
    with trio.fail_after(WAIT_S):
        ticket, stream = await ticket_of(fetcher, holder)
        assert await trio.to_thread.run_sync(shown, ticket.port, bytes(32)) == b""
        got = await trio.to_thread.run_sync(shown, ticket.port, ticket.token)
        assert got == b"0123456789abcdef"
        assert await trio.to_thread.run_sync(shown, ticket.port, ticket.token) == b""
        await stream.reset()


async def test_another_certificate_gets_no_token(pair, monkeypatch) -> None:
    holder, fetcher = pair
    monkeypatch.setattr("node.network.bulk.pin_of", lambda tls: pin_of(tls)[::-1])
    with trio.fail_after(WAIT_S):
        with pytest.raises(BulkUnavailable, match="another program"):
            await fetcher.bulk.call(holder.peer_id, ask)
        with pytest.raises(BulkUnavailable, match="was possible"):  # And not tried again at once.
            await fetcher.bulk.call(holder.peer_id, ask)


async def test_cancelling_ends_the_thread_at_both_ends(pair) -> None:
    holder, fetcher = pair
    ended = threading.Event()

    def listen(connection) -> None:
        try:
            connection.fill(memoryview(bytearray(BLOCK)))
        finally:
            ended.set()

    with trio.fail_after(WAIT_S), trio.CancelScope() as scope:

        def begun(connection) -> None:
            trio.from_thread.run_sync(scope.cancel)
            listen(connection)

        await fetcher.bulk.call(holder.peer_id, begun)
    assert scope.cancelled_caught
    assert ended.is_set()


async def test_a_slow_peer_is_given_up(pair) -> None:
    holder, fetcher = pair
    fetcher.bulk._timeout_s = 0.05
    with trio.fail_after(WAIT_S), pytest.raises(PeerUnreachable):
        await fetcher.bulk.call(holder.peer_id, lambda c: c.fill(memoryview(bytearray(16))))


async def test_a_peer_that_speaks_no_bulk_is_reached_by_streams(pair) -> None:
    _, fetcher = pair
    async with open_node("old", *fetcher.addresses()) as old:
        with trio.fail_after(WAIT_S), pytest.raises(PeerUnreachable):
            await old.reach(fetcher.peer_id)
            await fetcher.bulk.call(old.peer_id, ask)


async def test_garbage_after_the_first_byte_costs_nothing(pair) -> None:
    holder, fetcher = pair
    port = int(holder.addresses()[0].split("/")[4])
    with trio.fail_after(WAIT_S):
        for sent in (b"\x16", b"\x16" * 600, b"\x16\x03\x01\x00\x05hello"):
            with socket.create_connection(("127.0.0.1", port)) as raw:
                raw.sendall(sent)
        assert await fetcher.bulk.call(holder.peer_id, ask) == b"sixteen bytes .."


async def test_who_says_nothing_more_is_disconnected() -> None:
    brief = replace(PATIENT, upgrade_timeout_ms=50)
    async with open_node("holder", tuning=brief) as holder:
        port = int(holder.addresses()[0].split("/")[4])
        for sent in (b"", b"\x16", b"\x16\x03\x01"):
            with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as raw:
                raw.sendall(sent)
                assert await trio.to_thread.run_sync(closed, raw)


def closed(raw: socket.socket) -> bool:
    try:
        while raw.recv(100):
            pass
    except ConnectionResetError:
        return True
    return True
