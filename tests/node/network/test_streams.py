"""Byte streams: bounded, and honest about the end.

Spec: specs/network.md.
"""

from collections import Counter

import pytest
import trio

from node.network import host
from node.network.repairs import blocked_writes
from protocol.values.errors import MalformedMessage, PeerUnreachable
from tests.node.network.fixtures import WAIT_S, connected_nodes, open_node, tuned, until
from tests.node.network.many_peers import open_many_peers, sources

PROTOCOL = "/mutirao/test/1"


async def test_a_reset_is_not_an_end():
    async def break_off(peer, stream):
        await stream.write(b"half")
        await stream.reset()

    async with connected_nodes(2) as (a, b):
        a.on_stream(PROTOCOL, break_off)
        stream = await b.open_stream(a.peer_id, PROTOCOL)
        with pytest.raises(PeerUnreachable):
            await stream.read_exactly(5)


async def test_an_early_end_is_an_error():
    async def say_little(peer, stream):
        await stream.write(b"half")

    async with connected_nodes(2) as (a, b):
        a.on_stream(PROTOCOL, say_little)
        stream = await b.open_stream(a.peer_id, PROTOCOL)
        with pytest.raises(PeerUnreachable, match="4 of 5"):
            await stream.read_exactly(5)


async def test_silence_ends_a_read_and_a_full_window_a_write():
    async def sleep(peer, stream):
        await trio.sleep_forever()

    async with connected_nodes(2, tuning=tuned(stream_timeout_ms=300)) as (a, b):
        a.on_stream(PROTOCOL, sleep)
        stream = await b.open_stream(a.peer_id, PROTOCOL)
        with pytest.raises(PeerUnreachable):
            await stream.read_some(1)
        with pytest.raises(PeerUnreachable):
            await stream.write(bytes(10**6))
        await stream.reset()
        other = await b.open_stream(a.peer_id, PROTOCOL)  # The connection is none the worse.
        other._timeout_s = WAIT_S
        await other.write(b"x")


async def test_many_megabytes():
    async def count(peer, stream):
        size = 0
        while data := await stream.read_some(2**18):
            size += len(data)
        await stream.write(size.to_bytes(8))

    async with connected_nodes(2) as (a, b):
        a.on_stream(PROTOCOL, count)
        stream = await b.open_stream(a.peer_id, PROTOCOL)
        with trio.fail_after(WAIT_S):
            for _ in range(16):
                await stream.write(bytes(2**20))
            await stream.close()
            assert int.from_bytes(await stream.read_exactly(8)) == 2**24


async def test_a_lost_peer_ends_its_streams():
    ended = trio.Event()

    async def wait(peer, stream):
        try:
            await stream.wait_some(1)
        except PeerUnreachable:
            ended.set()
            raise

    async with connected_nodes(2) as (a, b):
        a.on_stream(PROTOCOL, wait)
        await b.open_stream(a.peer_id, PROTOCOL)
        await until(a.peers)
        await b._disconnect(a.peer_id)
        with trio.fail_after(WAIT_S):
            await ended.wait()


async def test_a_fault_in_a_handler_is_blamed():
    async def fussy(peer, stream):
        raise MalformedMessage(peer, "anything")

    async with connected_nodes(2) as (a, b):
        a.on_stream(PROTOCOL, fussy)
        await b.open_stream(a.peer_id, PROTOCOL)
        await until(lambda: a._context.scores.penalty(b.peer_id) > 0)


async def send_much(peer, stream):
    """Answer with more than any window holds."""
    await stream.write(bytes(2**20))


async def read_all(stream):
    data = bytearray()
    while piece := await stream.read_some(2**20):
        data += piece
    return bytes(data)


async def test_streams_of_a_crowd_do_not_keep_an_honest_one_out(monkeypatch):
    monkeypatch.setattr(host, "STREAMS_MAX", 8)
    monkeypatch.setattr(host, "STREAMS_PER_SOURCE_MAX", 2)
    served = Counter()

    async def serve(peer, stream):
        served[peer] += 1
        try:
            await stream.wait_some(1)
        finally:
            served[peer] -= 1

    async with open_node("a") as a, open_many_peers(a.addresses()[0]) as peers:
        a.on_stream("/test/rest/1", serve)
        for source in sources(20, per_site=2):
            await peers.hold(source, "/test/rest/1")
        await until(lambda: served.total() == 8)
        async with open_node("b", a.addresses()[0]) as b:
            await until(b.peers)
            stream = await b.open_stream(a.peer_id, "/test/rest/1")
            await until(lambda: served[b.peer_id] == 1)
            assert served.total() <= 8
            await stream.close()
    await until(lambda: not served.total())


async def test_who_never_opens_its_window_is_given_up_and_holds_nobody_up():
    async with (
        open_node("a", tuning=tuned(stream_timeout_ms=300)) as a,
        open_many_peers(a.addresses()[0]) as peers,
    ):
        a.on_stream("/test/much/1", send_much)
        streams = [await peers.hold(source, "/test/much/1") for source in sources(16)]
        async with open_node("b", a.addresses()[0]) as b:
            await until(b.peers)
            stream = await b.open_stream(a.peer_id, "/test/much/1")
            assert await read_all(stream) == bytes(2**20)
        await until(lambda: all(stream.reset_received for stream in streams))
        assert not blocked_writes._OPENED
