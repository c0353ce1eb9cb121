"""Image and inputs are fetched from a requester that may be slow, poor or a liar.

Spec: specs/execution.md#executions.
"""

import gc
import json
import os
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from node.data.transfer import PROTOCOL
from node.provider import preparation
from node.provider import prepare as preparing
from node.provider.execution_context import pins_of
from node.provider.prepare import HeldImage, prepare
from protocol.machines.effects import Prepare
from protocol.machines.inputs import FetchProgressed, PreparationMeasured
from protocol.values.errors import BlobUnavailable, InvalidRequest, SandboxUnavailable, StorageFull
from protocol.values.ids import PeerId
from protocol.wire.job import BlobRef, FileRef, Resources, Workload
from tests.node.fixtures import ADA, LEASE, NodeFolder, RecordedInbox, until
from tests.node.memory_stream import MemoryStream, MemoryStreams


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparing, "PAUSE_S", 0.001)


def effect_of(workload: Workload) -> Prepare:
    return Prepare(LEASE, ADA.peer_id, workload)


async def test_everything_is_here_and_pinned(ada: NodeFolder, bea: NodeFolder) -> None:
    workload = await ada.workload(("a", b"1"), ("b", b"2"))
    await prepare(bea.context, effect_of(workload), RecordedInbox())
    parts = {part.digest for part in await bea.images.parts(workload.image)}
    inputs = {file.blob.digest for file in workload.inputs}
    assert bea.blobs._pins[pins_of(LEASE)] == parts | inputs
    assert all(bea.blobs.ref(digest) for digest in parts | inputs)


async def test_what_was_prepared_is_measured_for_the_next_bids(
    ada: NodeFolder, bea: NodeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparation, "MEASURED_BYTES_MIN", 1)
    workload = await ada.workload(("a", b"1"))
    inbox = RecordedInbox()
    await prepare(bea.context, effect_of(workload), inbox)
    first = (await inbox.wait_for(PreparationMeasured)).preparation
    assert first.images == (workload.image[:8],)
    assert min(first.fetch_rate, first.unpack_rate) > 0
    await prepare(bea.context, effect_of(workload), inbox)
    assert not any(isinstance(event, PreparationMeasured) for event in inbox.events)
    assert bea.context.meter.preparation == first, "nothing was missing"


async def test_the_sandbox_takes_the_image_once_all_is_here(
    ada: NodeFolder, bea: NodeFolder
) -> None:
    workload = await ada.workload(("a", b"1"))
    bea.sandbox.prepares = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(prepare, bea.context, effect_of(workload), RecordedInbox())
        await until(lambda: bea.sandbox.prepared == [workload.image])
        assert bea.blobs.ref(workload.inputs[0].blob.digest) is not None
        assert not bea.context.image_cache.path(
            workload.image
        ).exists()  # Unpacking is the sandbox's, if it wants to.
        bea.sandbox.prepares.set()


async def test_a_pack_is_unpacked_before_the_job_begins(ada: NodeFolder, bea: NodeFolder) -> None:
    workload = await ada.workload(("broken", b"x" * 600), ("empty", bytes(1024)))
    broken, empty = (replace(each, pack=True) for each in workload.inputs)
    await prepare(bea.context, effect_of(replace(workload, inputs=(empty,))), RecordedInbox())
    assert (bea.folder / "roots" / f"{empty.blob.digest.hex()}.pack").is_dir()
    with pytest.raises(InvalidRequest, match="not a tar archive"):
        await prepare(bea.context, effect_of(replace(workload, inputs=(broken,))), RecordedInbox())


async def test_both_ways_in_which_a_sandbox_takes_an_image(bea: NodeFolder, tmp_path: Path) -> None:
    image = HeldImage(await bea.workload(), bea.context)
    root = await image.unpack()
    assert root == bea.context.image_cache.path(image.digest)
    os.utime(root, (0, 0))
    await image.unpack()
    assert root.stat().st_mtime > 0  # It counts as used.
    await image.archive(tmp_path / "image.tar")
    with tarfile.open(tmp_path / "image.tar") as archive:
        assert "manifest.json" in archive.getnames()


async def test_an_image_may_take_four_times_its_size_and_the_disk_of_its_job(
    bea: NodeFolder,
) -> None:
    workload = await bea.workload(resources=Resources(memory_mib=64, disk_mib=3))
    size = workload.image_bytes
    assert await HeldImage(workload, bea.context)._unpacked_bytes_max() == 4 * size + 3 * 1024**2


async def test_a_small_image_that_unpacks_to_much_is_refused_with_a_reason(
    ada: NodeFolder, bea: NodeFolder, tmp_path: Path
) -> None:
    image = await ada.image(bytes(20 * 1024**2), packed=True)
    parts = await ada.images.parts(image)
    workload = await ada.workload(resources=Resources(memory_mib=64, disk_mib=16))
    workload = replace(workload, image=image, image_bytes=sum(part.size for part in parts))
    with pytest.raises(InvalidRequest, match="more than the allowed 16 MiB: give the job more"):
        await prepare(bea.context, effect_of(workload), RecordedInbox())
    assert not list((bea.folder / "roots").iterdir())
    with pytest.raises(InvalidRequest, match="more than the allowed 16 MiB"):  # What Docker gets.
        await HeldImage(workload, bea.context).archive(tmp_path / "image.tar")
    enough = replace(workload, resources=Resources(memory_mib=64, disk_mib=21))
    await prepare(bea.context, effect_of(enough), RecordedInbox())
    assert bea.context.image_cache.path(image).exists()


async def test_a_node_without_a_sandbox_prepares_nothing(bea: NodeFolder) -> None:
    context = replace(bea.context, sandbox=None)
    with pytest.raises(SandboxUnavailable, match="has no sandbox"):
        await prepare(context, effect_of(await bea.workload()), RecordedInbox())


async def test_progress_is_told_and_never_beyond_the_total(
    ada: NodeFolder, bea: NodeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparing, "PROGRESS_BYTES", 2**20)
    inbox = RecordedInbox()
    workload = await ada.workload(("a", b"1" * 3_000_000), ("b", b"2" * 3_000_000))
    await prepare(bea.context, effect_of(workload), inbox)
    total = workload.image_bytes + 6_000_000
    told = [event for event in inbox.events if isinstance(event, FetchProgressed)]
    assert [event.total for event in told] == [total] * len(told)
    fetched = [event.fetched for event in told]
    assert fetched == sorted(fetched)
    assert 4 <= len(fetched) <= 8
    assert [number for number in fetched if number >= total] == [total], "said once, at the end"


async def test_a_job_that_needs_nothing_says_so_too(ada: NodeFolder, bea: NodeFolder) -> None:
    workload, inbox = replace(await ada.workload(), image_bytes=1), RecordedInbox()
    with pytest.raises(InvalidRequest):
        await prepare(bea.context, effect_of(workload), inbox)
    assert inbox.events == [], "an image that is larger than it was said is not all here"
    workload = await ada.workload()
    for _ in range(2):  # The second time nothing has to be fetched.
        await prepare(bea.context, effect_of(workload), inbox)
        done = FetchProgressed(LEASE, workload.image_bytes, workload.image_bytes)
        assert await inbox.wait_for(FetchProgressed) == done


async def test_a_busy_requester_is_asked_again(
    ada: NodeFolder, bea: NodeFolder, streams: MemoryStreams
) -> None:
    serve, busy = streams.handlers[ADA.peer_id, PROTOCOL], [1, 2, 3]

    async def sometimes(peer: PeerId, stream: MemoryStream) -> None:
        if busy:
            busy.pop()
            await stream.reset()
        else:
            await serve(peer, stream)

    streams.handlers[ADA.peer_id, PROTOCOL] = sometimes
    await prepare(bea.context, effect_of(await ada.workload(("a", b"1"))), RecordedInbox())


async def test_what_the_requester_has_not_is_not_asked_for_ever(
    ada: NodeFolder, bea: NodeFolder, streams: MemoryStreams
) -> None:
    workload = await ada.workload(("a", b"1"))
    await ada.blobs.drop(workload.inputs[0].blob.digest)
    with pytest.raises(BlobUnavailable, match="does not have it"):
        await prepare(bea.context, effect_of(workload), RecordedInbox())


async def test_an_image_that_is_larger_than_it_was_said(
    ada: NodeFolder, bea: NodeFolder, streams: MemoryStreams
) -> None:
    workload = await ada.workload()
    workload = replace(workload, image_bytes=workload.image_bytes - 1)
    with pytest.raises(InvalidRequest, match="the job declares"):
        await prepare(bea.context, effect_of(workload), RecordedInbox())
    assert len(streams.opened) == 1  # The manifest, and no layer.


@pytest.mark.parametrize("wrong", [-1, 1])
async def test_an_image_whose_manifest_gives_a_layer_a_wrong_size(
    ada: NodeFolder, bea: NodeFolder, wrong: int
) -> None:
    workload = await ada.workload()
    document = json.loads(await ada.blobs.read(workload.image))
    document["layers"][0]["size"] += wrong
    lying = await ada.blobs.put_bytes(json.dumps(document).encode(), "image")
    workload = replace(workload, image=lying.digest, image_bytes=workload.image_bytes + 10)
    with pytest.raises((BlobUnavailable, InvalidRequest), match=r"bytes instead of|over the allow"):
        await prepare(bea.context, effect_of(workload), RecordedInbox())
    assert not bea.context.image_cache.path(lying.digest).exists()


async def test_an_image_that_is_none(ada: NodeFolder, bea: NodeFolder) -> None:
    ref = await ada.blobs.put_bytes(b"no manifest", "image")
    workload = replace(await ada.workload(), image=ref.digest)
    with pytest.raises(InvalidRequest):
        await prepare(bea.context, effect_of(workload), RecordedInbox())


async def test_an_input_that_is_larger_than_it_was_said(ada: NodeFolder, bea: NodeFolder) -> None:
    ref = await ada.blobs.put_bytes(b"12345", "input")
    file = FileRef("a", BlobRef(ref.digest, 4))
    workload = replace(await ada.workload(), inputs=(file,))
    with pytest.raises(BlobUnavailable, match="has 5 bytes instead of 4"):
        await prepare(bea.context, effect_of(workload), RecordedInbox())
    gc.collect()  # A generator that the blob server had left open would warn now.


async def test_no_room(ada: NodeFolder, bea: NodeFolder) -> None:
    bea.blobs._budget = 100
    with pytest.raises(StorageFull):
        await prepare(bea.context, effect_of(await ada.workload()), RecordedInbox())
