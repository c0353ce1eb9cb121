"""A linked file is a blob as long as nobody touches it.

Spec: specs/data.md#linked-files.
"""

import os
from pathlib import Path

import pytest

from node.data.frames import CHANGED
from node.data.linked_files import Identity, LinkedFiles, StoredFile
from node.data.range_server import RangeServer
from node.data.ranges import RangeRequest
from node.data.throttle import Throttle
from node.data.transfer import BlobFetcher, BlobServer, Holding, Ways
from protocol.values.errors import BlobUnavailable, InvalidRequest
from protocol.values.ids import digest_of
from tests.node.data.direct import DirectPeers
from tests.node.data.test_range_server import HOLDER, asked, direct  # noqa: F401

DATA = os.urandom(5_000_000)


def identity_of(path: Path) -> Identity:
    with path.open("rb") as file:
        return Identity.of(file)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "input"
    path.write_bytes(DATA)
    return path


@pytest.fixture
async def theirs(open_blobs):
    return await open_blobs("holder")


async def test_it_survives_a_restart_and_is_never_copied(tmp_path: Path, theirs, path) -> None:
    ref = await theirs.linked.add(path, identity_of(path))
    assert (ref.digest, ref.size) == (digest_of(DATA), len(DATA))
    assert theirs.used_bytes() == 0
    assert theirs.path(ref.digest) is None
    again = LinkedFiles(tmp_path / "holder" / "linked.json").find(ref.digest)
    assert again == theirs.linked.find(ref.digest)
    with again.open() as file:
        assert file.read() == DATA
    await theirs.drop(ref.digest)
    assert path.read_bytes() == DATA


CHANGES = {
    "written": lambda path: path.write_bytes(DATA[:-1] + b"?"),
    "longer": lambda path: path.write_bytes(DATA + b"?"),
    "touched": lambda path: os.utime(path, (1, 1)),
    "replaced": lambda path: path.replace(path.with_name("old")) and path.write_bytes(DATA),
    "gone": lambda path: path.unlink(),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_a_changed_file_is_no_blob(theirs, path: Path, change: str) -> None:
    ref = await theirs.linked.add(path, identity_of(path))
    CHANGES[change](path)
    with pytest.raises(BlobUnavailable, match="has changed since the job was submitted"):
        theirs.linked.find(ref.digest).open()


async def test_only_the_file_that_its_caller_sees_is_linked(theirs, path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(DATA)
    with pytest.raises(InvalidRequest, match="not the one that was meant"):
        await theirs.linked.add(path, identity_of(other))
    with pytest.raises(InvalidRequest, match="cannot read"):
        await theirs.linked.add(path.with_name("missing"), identity_of(path))
    assert theirs.linked.find(digest_of(DATA)) is None


async def test_both_ways_serve_it_until_it_changes(
    theirs,
    open_blobs,
    peers,
    path: Path,
    direct: DirectPeers,  # noqa: F811
) -> None:
    ref = await theirs.linked.add(path, identity_of(path))

    async def hand_over(work, _peer, _stream) -> None:
        direct.work[HOLDER] = work

    server = RangeServer(theirs, hand_over, Throttle(0))
    peers.handlers[HOLDER] = BlobServer(theirs).serve
    ask = RangeRequest(ref.digest, 7, 100)
    assert await asked(direct, server, ask) == [DATA[7:107]]
    ours = await open_blobs("fetcher")
    fetcher = BlobFetcher(ours, peers.ways)
    await fetcher.fetch_all([ref], Holding(HOLDER, "input", "job"))
    assert await ours.read(ref.digest, 2**24) == DATA
    await ours.drop(ref.digest)

    os.utime(path, (1, 1))
    assert await asked(direct, server, ask) == [CHANGED]
    for ways in (peers.ways, Ways(peers.open_stream, direct.call)):
        with pytest.raises(BlobUnavailable, match="has changed since the job was submitted"):
            await BlobFetcher(ours, ways).fetch_all([ref], Holding(HOLDER, "input", "job"))


async def test_a_change_while_it_is_read_is_noticed(theirs, path: Path) -> None:
    ref = await theirs.linked.add(path, identity_of(path))
    linked = theirs.linked.find(ref.digest)
    with linked.open() as file:
        linked.require_unchanged(file)
        os.utime(path, (1, 1))
        with pytest.raises(BlobUnavailable, match="has changed"):
            linked.require_unchanged(file)


def test_a_blob_of_ours_that_was_evicted_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(BlobUnavailable):
        StoredFile(tmp_path / "evicted").open()
