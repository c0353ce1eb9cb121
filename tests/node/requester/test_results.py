"""Log and outputs come home whole, or it is said why not; what is over lets go.

Spec: specs/execution.md#results.
"""

import errno
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from node.data.log_protocol import PROTOCOL
from node.provider.log_server import LogServer
from node.requester import log_follower, results
from node.requester.results import Results, resume_pins_of
from protocol.machines import effects, inputs
from protocol.values.errors import StorageFull
from protocol.values.ids import JobId, LeaseId, digest_of
from protocol.wire.codec import encode
from protocol.wire.job import NO_LOG, BlobRef, FileRef, Outputs, Workload
from protocol.wire.messages import Checkpoint
from tests.node.fixtures import ADA, BEA, JOB, LEASE, NodeFolder, ref_of, until
from tests.node.memory_stream import MemoryStreams

WORKLOAD = Workload(digest_of(b"image"), ("true",), output_mib=1, log_mib=1)
FOLLOW = effects.FollowLog(JOB, LEASE, BEA.peer_id, WORKLOAD)
AGAIN = LeaseId(b"M" * 32)
OTHER_JOB = JobId(b"other job, no. 1")


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "FETCH_PAUSE_S", 0.001)
    monkeypatch.setattr(results, "UNREAD_S", 0)
    monkeypatch.setattr(log_follower, "RETRY_S", 0.01)


@asynccontextmanager
async def running(found: Results) -> AsyncIterator[Results]:
    async with trio.open_nursery() as nursery:
        await nursery.start(found.run)
        yield found
        nursery.cancel_scope.cancel()


async def left(
    node_folder: NodeFolder, log: bytes = b"log", **files: bytes
) -> effects.FetchOutputs:
    """Let a provider have a log and outputs."""
    kept = [
        FileRef(name.replace("__", "/"), await node_folder.blobs.put_bytes(data, "output"))
        for name, data in files.items()
    ]
    listing = Outputs(tuple(kept), await node_folder.blobs.put_bytes(log, "log"))
    ref = await node_folder.blobs.put_bytes(encode(listing), "output")
    return effects.FetchOutputs(JOB, LEASE, BEA.peer_id, WORKLOAD, ref)


def log_at(
    path: Path, streams: MemoryStreams, lease_id: LeaseId = LEASE, *, grows: bool = True
) -> None:
    """Let the provider serve this log for a lease."""

    def log_of(wanted: LeaseId) -> Any:
        return (ADA.peer_id, path, grows) if wanted == lease_id else None

    streams.handlers[BEA.peer_id, PROTOCOL] = LogServer(log_of).serve


async def test_outputs_come_home(ada: NodeFolder, bea: NodeFolder, streams: MemoryStreams) -> None:
    effect = await left(bea, b"the log", a=b"1", b__c=b"2" * 3_000_00)
    async with running(ada.results(streams)) as found:
        found.fetch_outputs(effect)
        await ada.inbox.wait_for(inputs.OutputsFetched)
        assert found.log_path(JOB).read_bytes() == b"the log"
        assert await ada.blobs.read(digest_of(b"1")) == b"1"
        assert ada.blobs._pins  # As long as the lease is not settled.
        found.forget(LEASE)
        assert not ada.blobs._pins


@pytest.mark.parametrize("lies", [False, True])
async def test_a_bundle_comes_home_if_it_has_what_its_listing_says(
    ada: NodeFolder, bea: NodeFolder, streams: MemoryStreams, *, lies: bool
) -> None:
    bundle = await bea.blobs.put_bytes(b"onexwo" if lies else b"onetwo", "output")
    files = tuple(FileRef(data.decode(), ref_of(data), bundled=True) for data in (b"one", b"two"))
    listing = Outputs(files, await bea.blobs.put_bytes(b"log", "log"), (bundle,))
    ref = await bea.blobs.put_bytes(encode(listing), "output")
    async with running(ada.results(streams)) as found:
        found.fetch_outputs(effects.FetchOutputs(JOB, LEASE, BEA.peer_id, WORKLOAD, ref))
        if lies:
            lost = await ada.inbox.wait_for(inputs.OutputsLost)
            assert "its bundle has other bytes than 'two'" in lost.why
        else:
            await ada.inbox.wait_for(inputs.OutputsFetched)
            assert await ada.blobs.read(bundle.digest) == b"onetwo"
            assert [each.offset for each in (await found.outputs(ref.digest)).values()] == [0, 3]


def checkpoint_of(listing: BlobRef, sequence: int = 1) -> Checkpoint:
    return Checkpoint(LEASE, sequence, listing, 1)


async def offered(bea: NodeFolder, data: bytes, sequence: int = 1) -> effects.FetchCheckpoint:
    """Let a provider have a checkpoint."""
    file = FileRef("state", await bea.blobs.put_bytes(data, "output"))
    listing = await bea.blobs.put_bytes(encode(Outputs((file,), NO_LOG)), "output")
    workload = replace(WORKLOAD, checkpoint="state")
    checkpoint = checkpoint_of(listing, sequence)
    return effects.FetchCheckpoint(JOB, LEASE, BEA.peer_id, workload, checkpoint)


async def test_the_newest_checkpoint_is_kept_and_no_older_one(
    ada: NodeFolder, bea: NodeFolder, streams: MemoryStreams
) -> None:
    async with running(ada.results(streams)) as found:
        for sequence, data in ((1, b"old"), (2, b"new")):
            effect = await offered(bea, data, sequence)
            found.fetch_checkpoint(effect)
            here = await ada.inbox.wait_for(inputs.CheckpointFetched)
            assert here == inputs.CheckpointFetched(LEASE, sequence)
            found.keep_checkpoint(effects.KeepCheckpoint(JOB, LEASE, sequence, effect.checkpoint))
        found.forget(LEASE)  # The lease has ended; its job goes on.
        pinned = {effect.checkpoint.listing.digest, digest_of(b"new"), NO_LOG.digest}
        assert ada.blobs._pins == {resume_pins_of(JOB): pinned}
        found.drop_checkpoint(JOB)
        assert not ada.blobs._pins


async def test_a_checkpoint_that_nobody_has_is_lost(
    ada: NodeFolder, bea: NodeFolder, streams: MemoryStreams
) -> None:
    effect = await offered(bea, b"1")
    await bea.blobs.drop(digest_of(b"1"))
    async with running(ada.results(streams)) as found:
        found.fetch_checkpoint(effect)
        lost = await ada.inbox.wait_for(inputs.CheckpointLost)
        assert lost == inputs.CheckpointLost(LEASE, 1)
        assert not ada.blobs._pins


async def test_a_checkpoint_of_other_files_is_lost(
    ada: NodeFolder, bea: NodeFolder, streams: MemoryStreams
) -> None:
    effect = await offered(bea, b"1")
    other = replace(effect, workload=replace(WORKLOAD, checkpoint="another"))
    async with running(ada.results(streams)) as found:
        found.fetch_checkpoint(other)
        await ada.inbox.wait_for(inputs.CheckpointLost)


async def test_many_outputs_take_a_few_streams(
    ada: NodeFolder, bea: NodeFolder, streams: MemoryStreams
) -> None:
    effect = await left(bea, **{f"file{number}": b"%d" % number for number in range(100)})
    async with running(ada.results(streams)) as found:
        found.fetch_outputs(effect)
        await ada.inbox.wait_for(inputs.OutputsFetched)
    assert len(streams.opened) == 3  # The listing, the log, and all outputs.
    assert len(ada.blobs.of_kind("output")) == 101


async def test_a_job_with_no_outputs(
    ada: NodeFolder, bea: NodeFolder, streams: MemoryStreams
) -> None:
    effect = await left(bea, b"")
    async with running(ada.results(streams)) as found:
        found.fetch_outputs(effect)
        await ada.inbox.wait_for(inputs.OutputsFetched)
        assert found.log_path(JOB).read_bytes() == b""


async def test_a_provider_that_comes_back_is_asked_again(
    ada: NodeFolder, bea: NodeFolder, streams: MemoryStreams
) -> None:
    effect = await left(bea, a=b"1")
    handlers = dict(streams.handlers)
    streams.handlers.clear()
    async with running(ada.results(streams)) as found:
        found.fetch_outputs(effect)
        await until(lambda: len(streams.opened) >= 2)
        streams.handlers.update(handlers)
        await ada.inbox.wait_for(inputs.OutputsFetched)


async def test_outputs_that_nobody_has(
    ada: NodeFolder, bea: NodeFolder, streams: MemoryStreams
) -> None:
    effect = await left(bea, a=b"1")
    await bea.blobs.drop(digest_of(b"1"))
    async with running(ada.results(streams)) as found:
        found.fetch_outputs(effect)
        lost = await ada.inbox.wait_for(inputs.OutputsLost)
    assert "does not have it" in lost.why


@pytest.mark.parametrize("listing, why", [
    (Outputs((FileRef("big", BlobRef(digest_of(b"x"), 2**21)),), ref_of(b"")), "were agreed"),
    (Outputs((), BlobRef(digest_of(b"x"), 2**30)), "claims a log"),
    (Outputs((FileRef("../../etc/passwd", ref_of(b"x")),), ref_of(b"")), "leads out"),
])  # fmt: skip
async def test_a_provider_that_lies_is_not_asked_again(
    ada: NodeFolder, bea: NodeFolder, streams: MemoryStreams, listing: Outputs, why: str
) -> None:
    ref = await bea.blobs.put_bytes(encode(listing), "output")
    async with running(ada.results(streams)) as found:
        found.fetch_outputs(effects.FetchOutputs(JOB, LEASE, BEA.peer_id, WORKLOAD, ref))
        lost = await ada.inbox.wait_for(inputs.OutputsLost)
    assert why in lost.why
    assert len(streams.opened) == 1


async def test_a_listing_that_is_none(
    ada: NodeFolder, bea: NodeFolder, streams: MemoryStreams
) -> None:
    ref = await bea.blobs.put_bytes(b"garbage", "output")
    async with running(ada.results(streams)) as found:
        found.fetch_outputs(effects.FetchOutputs(JOB, LEASE, BEA.peer_id, WORKLOAD, ref))
        assert "is broken" in (await ada.inbox.wait_for(inputs.OutputsLost)).why


async def test_no_room_for_the_outputs(
    ada: NodeFolder, bea: NodeFolder, streams: MemoryStreams
) -> None:
    effect = await left(bea, a=b"1" * 10_000)
    ada.blobs._budget = 5_000
    async with running(ada.results(streams)) as found:
        found.fetch_outputs(effect)
        assert "do not fit" in (await ada.inbox.wait_for(inputs.OutputsLost)).why


async def test_the_log_of_a_running_job_is_followed_and_then_replaced(
    ada: NodeFolder, bea: NodeFolder, streams: MemoryStreams, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"the ")
    log_at(source, streams)
    effect = await left(bea, b"the whole log")
    async with running(ada.results(streams)) as found:
        path = found.log_path(JOB)
        found.follow_log(FOLLOW)
        await until(lambda: path.exists() and path.read_bytes() == b"the ")
        found.fetch_outputs(effect)
        await ada.inbox.wait_for(inputs.OutputsFetched)
        source.write_bytes(b"the and something that nobody signed")
        await trio.testing.wait_all_tasks_blocked(0.1)
        assert path.read_bytes() == b"the whole log"
    assert await ada.blobs.read(digest_of(b"the whole log")) == b"the whole log"


async def test_a_log_that_nobody_reads_yet_is_followed_later(
    ada: NodeFolder, streams: MemoryStreams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "UNREAD_S", 1_000)
    source = tmp_path / "source"
    source.write_bytes(b"1234")
    log_at(source, streams)
    async with running(ada.results(streams)) as found:
        found.follow_log(FOLLOW)
        await trio.testing.wait_all_tasks_blocked()
        with found.reading(OTHER_JOB):
            await trio.testing.wait_all_tasks_blocked()
        assert not streams.opened
        with found.reading(JOB):
            await until(lambda: streams.opened)
        assert not found._readers


async def test_following_goes_on_after_a_restart_where_it_was(
    ada: NodeFolder, streams: MemoryStreams, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"1234")
    log_at(source, streams)
    async with running(ada.results(streams)) as found:
        found.follow_log(FOLLOW)
        path = found.log_path(JOB)
        await until(lambda: path.exists() and path.read_bytes() == b"1234")
        reader = path.open("rb")
    source.write_bytes(b"12345678")
    async with running(ada.results(streams)) as found:
        found.follow_log(FOLLOW)
        await until(lambda: path.read_bytes() == b"12345678")
    with reader:
        assert reader.read() == b"12345678"  # Nobody who reads it saw another file.


async def test_another_attempt_has_a_log_of_its_own(
    ada: NodeFolder, streams: MemoryStreams, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(b"the first attempt")
    second.write_bytes(b"2nd")
    log_at(first, streams)
    async with running(ada.results(streams)) as found:
        path = found.log_path(JOB)
        found.follow_log(FOLLOW)
        await until(lambda: path.exists() and path.read_bytes() == b"the first attempt")
        found.forget(LEASE)
        log_at(second, streams, AGAIN)
        found.follow_log(effects.FollowLog(JOB, AGAIN, BEA.peer_id, WORKLOAD))
        await until(lambda: path.exists() and path.read_bytes() == b"2nd")


async def test_nobody_follows_a_lease_that_has_ended(
    ada: NodeFolder, streams: MemoryStreams
) -> None:
    async with running(ada.results(streams)) as found:
        found.follow_log(FOLLOW)  # The provider is gone: it is tried again and again.
        await until(lambda: len(streams.opened) > 3)
        found.forget(LEASE)
        await trio.testing.wait_all_tasks_blocked(0.05)
        opened = len(streams.opened)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert len(streams.opened) == opened


async def test_a_fetch_ends_with_its_lease(
    ada: NodeFolder, bea: NodeFolder, streams: MemoryStreams
) -> None:
    effect = await left(bea, a=b"1")
    streams.handlers.clear()
    async with running(ada.results(streams)) as found:
        found.fetch_outputs(effect)
        await until(lambda: streams.opened)
        found.forget(LEASE)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert ada.inbox.events == []
        assert not ada.blobs._pins


async def test_a_full_disk_stops_the_following_and_not_the_node(
    ada: NodeFolder, streams: MemoryStreams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StorageFull("no room")

    source = tmp_path / "source"
    source.write_bytes(b"x")
    log_at(source, streams)
    monkeypatch.setattr(log_follower, "_append", full)
    async with running(ada.results(streams)) as found:
        found.follow_log(FOLLOW)
        await until(lambda: streams.served and streams.served[0].was_reset)


async def test_blobs_on_another_disk(
    ada: NodeFolder, bea: NodeFolder, streams: MemoryStreams, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(*_: object) -> None:
        raise OSError(errno.EXDEV, "another disk")

    monkeypatch.setattr(os, "link", link)
    effect = await left(bea, b"the log")
    async with running(ada.results(streams)) as found:
        found.fetch_outputs(effect)
        await ada.inbox.wait_for(inputs.OutputsFetched)
        assert found.log_path(JOB).read_bytes() == b"the log"
