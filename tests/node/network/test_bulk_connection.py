"""Operations on a bulk connection end: when it is done, broken, or too slow.

Spec: specs/network.md#bulk-connections.
"""

import socket
import threading

import pytest
import trio

from node.network.bulk_connection import BulkConnection, in_thread
from protocol.values.errors import PeerUnreachable
from protocol.values.ids import PeerId

PEER = PeerId("peer")


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_bytes_are_counted_and_come_whole(pair) -> None:
    ours, theirs = pair
    connection = BulkConnection(ours, PEER, 60)
    writer = threading.Thread(target=BulkConnection(theirs, PEER, 60).send, args=(bytes(2**20),))
    writer.start()
    target = memoryview(bytearray(b"x" * 2**20))
    connection.fill(target)
    writer.join(60)
    assert target == bytes(2**20)
    assert connection.received == 2**20


def test_an_end_in_the_middle_is_a_broken_connection(pair) -> None:
    ours, theirs = pair
    connection = BulkConnection(ours, PEER, 60)
    theirs.sendall(b"abc")
    theirs.close()
    with pytest.raises(PeerUnreachable, match="early"):
        connection.fill_or_end(memoryview(bytearray(4)))
    assert not connection.fill_or_end(memoryview(bytearray(4)))
    with pytest.raises(PeerUnreachable, match="ended"):
        connection.fill(memoryview(bytearray(4)))


@pytest.mark.parametrize("is_sending", [True, False])
def test_who_does_not_read_or_write_is_too_slow(pair, is_sending: bool) -> None:
    connection = BulkConnection(pair[0], PEER, 0.01)
    with pytest.raises(PeerUnreachable):
        while True:
            if is_sending:
                connection.send(bytes(2**20))
            else:
                connection.fill(memoryview(bytearray(1)))


def test_a_trickle_is_too_slow(pair) -> None:
    ours, theirs = pair
    over = threading.Event()

    def trickle() -> None:
        while not over.wait(0.005):
            theirs.send(b"x")

    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        with pytest.raises(PeerUnreachable, match="too slow"):
            BulkConnection(ours, PEER, 0.1).fill(memoryview(bytearray(2**20)))
    finally:
        over.set()
        thread.join(60)


async def test_work_ends_when_its_task_is_cancelled(pair) -> None:
    ended: list[bytes] = []

    def work(raw: socket.socket) -> None:
        trio.from_thread.run_sync(scope.cancel)
        ended.append(raw.recv(1))

    with trio.fail_after(60), trio.CancelScope() as scope:
        await in_thread(pair[0], work, trio.CapacityLimiter(1))
    assert scope.cancelled_caught
    assert ended == [b""]


async def test_what_work_returns_or_raises_arrives(pair) -> None:
    ours, theirs = pair
    limiter = trio.CapacityLimiter(1)
    assert await in_thread(ours, lambda raw: raw.send(b"abc"), limiter) == 3
    assert theirs.recv(3) == b"abc"  # It is still open.
    with pytest.raises(ZeroDivisionError):
        await in_thread(ours, lambda _: 1 / 0, limiter)
