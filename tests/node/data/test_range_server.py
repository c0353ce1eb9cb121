"""A holder serves ranges of its blobs, and nothing that is not asked for by the rules.

Spec: specs/data.md#bulk-transfer.
"""

import os

import pytest
import trio

from node.data.frames import Reply, ReplyStatus
from node.data.range_server import RangeServer
from node.data.ranges import HoldersRequest, RangeRequest, receive_reply, send_request
from node.data.throttle import Throttle
from protocol.values.errors import MalformedMessage, PeerUnreachable, RuleBroken
from protocol.values.ids import PeerId, digest_of
from tests.node.data.direct import FETCHER, DirectPeers

HOLDER = PeerId("holder")
DATA = os.urandom(3_000_000)
ABSENT = Reply(ReplyStatus.ABSENT)


@pytest.fixture
async def direct():
    async with trio.open_nursery() as nursery:
        yield DirectPeers(nursery)
        nursery.cancel_scope.cancel()


@pytest.fixture
async def blobs(open_blobs):
    return await open_blobs("holder")


@pytest.fixture
def serving(direct, blobs):
    async def hand_over(work, _peer, _stream) -> None:
        direct.work[HOLDER] = work
        await trio.lowlevel.checkpoint()

    return RangeServer(blobs, hand_over, Throttle(0))


async def asked(direct, serving, *requests: RangeRequest) -> list[bytes | Reply]:
    """Return the bytes of each range, or the answer if there are none."""

    def ask(connection) -> list[bytes | Reply]:
        found: list[bytes | Reply] = []
        for request in requests:
            send_request(connection, request)
            answer = receive_reply(connection)
            data = bytearray(request.length if answer.status is ReplyStatus.HERE else 0)
            for start in range(0, len(data), 1 << 20):
                connection.fill(memoryview(data)[start : start + (1 << 20)])
            found.append(bytes(data) or answer)
        return found

    await serving.serve(FETCHER, None)
    with trio.fail_after(60):
        return await direct.call(HOLDER, ask)


async def test_it_serves_ranges(direct, serving, blobs) -> None:
    ref = await blobs.put_bytes(DATA, "input")
    got = await asked(
        direct, serving,
        RangeRequest(ref.digest, 0, 1),
        RangeRequest(ref.digest, 17, 2_000_000),
        RangeRequest(digest_of(b"unknown"), 0, 1),
        RangeRequest(ref.digest, ref.size - 5, 5),
    )  # fmt: skip
    assert got == [DATA[:1], DATA[17:2_000_017], ABSENT, DATA[-5:]]


async def test_a_damaged_blob_is_never_sent(direct, serving, blobs, open_blobs) -> None:
    ref = await blobs.put_bytes(DATA, "input")
    path = blobs.path(ref.digest)
    path.chmod(0o600)
    path.write_bytes(DATA[:-1] + bytes([DATA[-1] ^ 1]))
    reopened = await open_blobs("holder")  # A new process does not know who has changed it.
    serving._blobs = reopened
    assert await asked(direct, serving, RangeRequest(ref.digest, 0, 100)) == [ABSENT]
    assert reopened.ref(ref.digest) is None


async def test_what_was_hashed_is_not_hashed_again(direct, serving, blobs, open_blobs) -> None:
    ref = await blobs.put_bytes(DATA, "input")
    assert blobs.is_verified(ref.digest)
    reopened = await open_blobs("holder")
    serving._blobs = reopened
    assert not reopened.is_verified(ref.digest)
    assert await asked(direct, serving, RangeRequest(ref.digest, 0, 3)) == [DATA[:3]]
    assert reopened.is_verified(ref.digest)


@pytest.mark.parametrize(
    "length, fault", [(len(DATA) + 1, RuleBroken), (1 << 30, MalformedMessage)]
)
async def test_who_asks_for_too_much_is_at_fault(direct, serving, blobs, length, fault) -> None:
    ref = await blobs.put_bytes(DATA, "input")
    with pytest.raises(PeerUnreachable):
        await asked(direct, serving, RangeRequest(ref.digest, 0, length))
    with trio.fail_after(60):
        while not direct.raised:
            await trio.lowlevel.checkpoint()
    assert [type(error) for error in direct.raised] == [fault]


async def test_it_names_who_has_fetched_a_blob(direct, serving, blobs) -> None:
    ref = await blobs.put_bytes(DATA, "input")
    await asked(direct, serving, RangeRequest(ref.digest, 0, 5))
    with trio.fail_after(60):
        while not serving._fetched:  # Its thread is about to see the end.
            await trio.lowlevel.checkpoint()
    assert serving._others(HoldersRequest(ref.digest), HOLDER) == [FETCHER]
    assert serving._others(HoldersRequest(ref.digest), FETCHER) == []
    await blobs.drop(ref.digest)
    assert serving._others(HoldersRequest(ref.digest), HOLDER) == []


async def test_a_peer_has_few_connections(blobs) -> None:
    held: list[PeerId] = []

    async def hand_over(_work, peer, _stream) -> None:
        held.append(peer)
        await trio.sleep_forever()

    server = RangeServer(blobs, hand_over, Throttle(0))
    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(server.serve, FETCHER, None)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(PeerUnreachable, match="4 bulk connections"):
            await server.serve(FETCHER, None)
        nursery.cancel_scope.cancel()
    assert held == [FETCHER] * 4
