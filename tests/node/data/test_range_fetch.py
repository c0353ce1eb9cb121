"""A large blob comes over several connections at once, whole or not at all.

Spec: specs/data.md#bulk-transfer.
"""

import hashlib
import os
from pathlib import Path

import pytest
import trio

from node.data import range_fetch
from node.data.blobs import BlobRef
from node.data.frames import Reply, ReplyStatus
from node.data.range_fetch import FetchedRanges, RangeFetch
from node.data.ranges import HoldersRequest, receive_request, send_reply, tell_holders
from node.data.segments import SEGMENT_MAX, segment_size
from node.data.throttle import Throttle
from node.data.transfer import BlobFetcher, BlobServer, Holding, Ways
from protocol.values.errors import BlobUnavailable, PeerUnreachable, RuleBroken, StorageFull
from protocol.values.ids import PeerId, digest_of, peer_id_of
from tests.node.data.direct import DirectPeers

ONE, TWO, THREE = PeerId("one"), PeerId("two"), PeerId("three")
DATA = os.urandom(3 * SEGMENT_MAX + 12345)
REF = BlobRef(digest_of(DATA), len(DATA))


@pytest.fixture
async def direct():
    async with trio.open_nursery() as nursery:
        yield DirectPeers(nursery)
        nursery.cancel_scope.cancel()


class Holder:
    """Serves ranges of some bytes; a test changes what it does."""

    def __init__(self, data: bytes = DATA) -> None:
        self.data = data
        self.size = len(data)
        self.others: list[PeerId] = []  # Which holders it names.
        self.offsets: list[int] = []
        self.stop_at: int | None = None  # Breaks off in the middle of this request.

    def __call__(self, connection) -> None:
        while request := receive_request(connection):
            if isinstance(request, HoldersRequest):
                tell_holders(connection, self.others)
                continue
            self.offsets.append(request.offset)
            send_reply(connection, Reply(ReplyStatus.HERE, self.size))
            data = self.data[request.offset : request.offset + request.length]
            if self.stop_at and len(self.offsets) >= self.stop_at:
                connection.send(data[:100])
                raise PeerUnreachable("killed")
            for start in range(0, len(data), 1 << 20):
                connection.send(data[start : start + (1 << 20)])


async def fetched(direct: DirectPeers, path: Path, *holders: PeerId, told=None) -> FetchedRanges:
    report = told or (lambda *_: None)
    with trio.fail_after(60):
        return await RangeFetch(REF, path, report, Throttle(0)).run(direct.call, holders)


async def test_one_holder_is_asked_over_two_connections(direct, tmp_path: Path) -> None:
    direct.work[ONE] = holder = Holder()
    told: list[tuple[int, int]] = []
    got = await fetched(direct, tmp_path / "blob", ONE, told=lambda *n: told.append(n))
    assert got.digest == REF.digest
    assert got.holders == {ONE}
    assert direct.called == [ONE, ONE]
    assert sorted(set(holder.offsets)) == [*range(0, REF.size, segment_size(REF.size))]
    assert (tmp_path / "blob").read_bytes() == DATA
    assert told[-1] == (REF.size, REF.size)
    assert [n for n, _ in told] == sorted(n for n, _ in told)


async def test_the_others_go_on_when_a_holder_dies(direct, tmp_path: Path) -> None:
    direct.work[ONE], direct.work[TWO] = dying, _ = Holder(), Holder()
    dying.stop_at = 1
    got = await fetched(direct, tmp_path / "blob", ONE, TWO)
    assert got.digest == REF.digest
    assert [holder for holder, _ in got.failures] == [ONE]


async def test_what_came_stays_and_is_continued(direct, tmp_path: Path) -> None:
    path = tmp_path / "blob"
    direct.work[ONE] = Holder()
    direct.work[ONE].stop_at = 4
    got = await fetched(direct, path, ONE)
    assert got.digest is None
    kept = path.stat().st_size
    assert kept < REF.size
    assert path.read_bytes() == DATA[:kept]
    direct.work[TWO] = Holder()
    got = await fetched(direct, path, TWO)
    assert got.digest == REF.digest
    assert got.resumed == kept
    assert min(direct.work[TWO].offsets) == kept


async def test_a_cancelled_fetch_ends_its_threads(direct, tmp_path: Path) -> None:
    def silent(connection) -> None:
        scope_of.append(1)
        trio.from_thread.run_sync(scope.cancel)
        connection.fill_or_end(memoryview(bytearray(1 << 20)))

    scope_of: list[int] = []
    direct.work[ONE] = direct.work[TWO] = silent
    with trio.CancelScope() as scope:
        await fetched(direct, tmp_path / "blob", ONE, TWO)
    assert scope.cancelled_caught


async def test_a_full_disk_is_nobodys_fault(direct, tmp_path: Path, monkeypatch) -> None:
    def full(*_args) -> int:
        raise OSError(28, "No space left on device")

    direct.work[ONE] = Holder()
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(StorageFull, match="is full"):
        await fetched(direct, tmp_path / "blob", ONE)


OTHERS = [peer_id_of(bytes([number]) * 32) for number in range(5)]


async def test_holders_that_another_one_names_help(direct, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(range_fetch, "JOINED_BYTES_MIN", 0)
    direct.work = {other: Holder() for other in (ONE, *OTHERS)}
    direct.work[ONE].others = OTHERS
    direct.work[OTHERS[0]].stop_at = 1
    got = await fetched(direct, tmp_path / "blob", ONE)
    assert got.digest == REF.digest
    assert set(direct.called) <= {ONE, *OTHERS[:3]}
    assert got.holders - {ONE}


async def test_a_liar_among_others_costs_one_more_fetch(fetcher, direct, monkeypatch) -> None:
    monkeypatch.setattr(range_fetch, "JOINED_BYTES_MIN", 0)
    blobs, made, faults = fetcher
    direct.work = {ONE: Holder(), OTHERS[0]: Holder(bytes(len(DATA)))}
    direct.work[ONE].others = OTHERS[:1]
    await made.fetch_all([REF], Holding(ONE, "input", "a job"))
    assert blobs.path(REF.digest) is not None
    assert not faults


@pytest.fixture
async def fetcher(open_blobs, peers, direct):
    blobs = await open_blobs("fetcher")
    faults: list[RuleBroken] = []
    made = BlobFetcher(blobs, Ways(peers.open_stream, direct.call), faults.append)
    return blobs, made, faults


async def test_wrong_bytes_of_one_holder_are_its_fault(fetcher, direct) -> None:
    blobs, made, faults = fetcher
    direct.work[ONE] = Holder(DATA[:-1] + bytes([DATA[-1] ^ 1]))
    with pytest.raises(BlobUnavailable):
        await made.fetch_all([REF], Holding(ONE, "input", "a job"))
    assert [fault.peer for fault in faults] == [ONE]
    assert blobs.ref(REF.digest) is None
    assert blobs.used_bytes() == 0


async def test_another_size_is_not_accepted(fetcher, direct) -> None:
    _, made, _ = fetcher
    direct.work[ONE] = holder = Holder()
    holder.size += 1
    with pytest.raises(BlobUnavailable):
        await made.fetch_all([REF], Holding(ONE, "input", "a job"))


async def test_without_a_direct_connection_streams_are_used(
    fetcher, direct, peers, open_blobs
) -> None:
    blobs, made, faults = fetcher
    theirs = await open_blobs("holder")
    await theirs.put_bytes(DATA, "input")
    direct.work[ONE] = Holder()
    direct.work[ONE].stop_at = 3
    peers.handlers[ONE] = BlobServer(theirs).serve
    await made.fetch_all([REF], Holding(ONE, "input", "a job"))
    path = blobs.path(REF.digest)
    assert path is not None
    assert hashlib.sha256(path.read_bytes()).digest() == REF.digest
    assert not faults
