"""Unpacked images stay within their budget, and none goes that is used.

Spec: specs/execution.md#unpacked-images.
"""

import os
from pathlib import Path
from typing import Any

import pytest
import trio

from node.data.layers import ENTRY_BYTES, Allowance
from node.data.pack_writer import PackEntry, pack_chunks
from node.provider import image_cache as module
from node.provider.image_cache import ImageCache
from protocol.values.errors import BlobUnavailable, InvalidRequest, StorageFull
from protocol.values.ids import Digest, LeaseId
from tests.node.fixtures import LEASE, NodeFolder

MIB = 1024**2
SIZE = 3 * MIB
PARTS = 8
"""Entries of an unpacked image here: one file and the seven folders that a sandbox mounts over."""
OTHER = LeaseId(b"M" * 32)


@pytest.fixture(autouse=True)
def in_small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.data.layers.STEP_BYTES", MIB)


@pytest.fixture
async def images(bea: NodeFolder) -> list[Digest]:
    """Four images of 3 MiB; see `cache_of`."""
    return [await bea.image(bytes([number]) * SIZE) for number in range(4)]


def cache_of(bea: NodeFolder, budget_mib: int) -> ImageCache:
    """Return what a newly started node has."""
    return ImageCache(bea.folder / "roots", bea.images, budget_mib)


def left(bea: NodeFolder) -> set[str]:
    return {path.name for path in (bea.folder / "roots").iterdir()}


def names(*images: Digest) -> set[str]:
    return {image.hex() for image in images}


async def test_the_least_recently_used_make_room(bea: NodeFolder, images: list[Digest]) -> None:
    cache = cache_of(bea, 10)
    for image in (*images[:3], images[0], images[3]):
        root = await cache.unpack(image, 4 * MIB)
        assert (root / "file").stat().st_size == SIZE
    assert left(bea) == names(images[2], images[0], images[3])


async def test_what_a_lease_uses_stays_and_the_rest_is_refused(
    bea: NodeFolder, images: list[Digest]
) -> None:
    cache = cache_of(bea, 7)
    for lease_id, image in ((LEASE, images[0]), (OTHER, images[1])):
        cache.pin(lease_id, image)
        await cache.unpack(image, 4 * MIB)
    with pytest.raises(StorageFull, match=r"7 MiB .*storage\.unpacked_mib"):
        await cache.unpack(images[2], 4 * MIB)
    assert left(bea) == names(*images[:2])
    cache.unpin(LEASE)
    await cache.unpack(images[2], 4 * MIB)
    assert left(bea) == names(*images[1:3])


async def test_an_image_that_is_too_large_for_its_job_is_refused(
    bea: NodeFolder, images: list[Digest]
) -> None:
    cache = cache_of(bea, 10)
    with pytest.raises(InvalidRequest, match="more than the allowed 2 MiB: give the job more disk"):
        await cache.unpack(images[0], 2 * MIB)
    assert left(bea) == set()
    assert cache._unpacking == 0


async def test_an_image_whose_lease_ends_while_it_is_unpacked_is_counted(
    bea: NodeFolder, images: list[Digest], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, unpack = cache_of(bea, 10), bea.images.unpack
    with trio.CancelScope() as lease:

        async def unpack_and_end(*given: Any) -> None:
            await unpack(*given)
            lease.cancel()

        monkeypatch.setattr(bea.images, "unpack", unpack_and_end)
        await cache.unpack(images[0], 4 * MIB)
    assert left(bea) == names(images[0])
    assert list(cache._sizes) == [images[0].hex()]
    assert cache._unpacking == 0


async def test_who_stops_waiting_for_an_image_uncounts_nothing_of_it(
    bea: NodeFolder, images: list[Digest], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = cache_of(bea, 10)
    began, may_end = trio.Event(), trio.Event()

    async def unpack(image: Digest, folder: Path, allowance: Allowance) -> Path:
        if not began.is_set():
            assert allowance.grow is not None
            await trio.to_thread.run_sync(allowance.grow, MIB)
            began.set()
        await may_end.wait()
        root = folder / image.hex()
        root.mkdir()
        return root

    monkeypatch.setattr(bea.images, "unpack", unpack)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(cache.unpack, images[0], 4 * MIB)
        await began.wait()
        with trio.move_on_after(0):
            await cache.unpack(images[0], 4 * MIB)
        assert cache._unpacking == MIB
        may_end.set()
    assert cache._unpacking == 0


async def test_a_short_disk_keeps_none_that_is_not_used_and_takes_no_more(
    bea: NodeFolder, images: list[Digest], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = cache_of(bea, 100)
    cache.pin(LEASE, images[1])
    for image in images[:2]:
        await cache.unpack(image, 4 * MIB)
    # Short from the first MiB of the next image on.
    monkeypatch.setattr(module, "is_short", lambda *_: cache._unpacking > 0)
    with pytest.raises(StorageFull, match="disk is too full"):
        await cache.unpack(images[2], 4 * MIB)
    assert left(bea) == names(images[1])
    monkeypatch.setattr(module, "is_short", lambda *_: True)
    assert "disk is too full" in await cache.sweep()
    assert left(bea) == names(images[1])


async def test_a_new_daemon_learns_what_is_there(bea: NodeFolder, images: list[Digest]) -> None:
    before = cache_of(bea, 100)
    for number, image in enumerate(images[:3]):
        root = await before.unpack(image, 4 * MIB)
        os.utime(root, (3 - number, 3 - number))
    folder = bea.folder / "roots"
    (folder / "leaving-1" / "x").mkdir(parents=True)
    (folder / f"{images[3].hex()}.unpacking").mkdir()
    (folder / "of somebody else").mkdir()
    cache = cache_of(bea, 7)
    await cache.reconcile()
    assert left(bea) == names(*images[:3]) | {"of somebody else"}
    assert cache._sizes == dict.fromkeys(
        [each.hex() for each in images[2::-1]], SIZE + PARTS * ENTRY_BYTES
    )
    await cache.sweep()
    assert left(bea) == names(*images[:2]) | {"of somebody else"}


async def test_a_file_with_two_names_counts_once(bea: NodeFolder, images: list[Digest]) -> None:
    root = await cache_of(bea, 100).unpack(images[0], 4 * MIB)
    (root / "tmp" / "again").hardlink_to(root / "file")
    (root / "link").symlink_to("/etc")
    cache = cache_of(bea, 100)
    await cache.reconcile()
    assert cache._sizes == {images[0].hex(): SIZE + (PARTS + 2) * ENTRY_BYTES}


async def test_what_was_removed_by_hand_is_unpacked_again(
    bea: NodeFolder, images: list[Digest], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = cache_of(bea, 100)
    for image in images[:2]:
        (await cache.unpack(image, 4 * MIB)).rename(bea.folder / image.hex())
    await cache.unpack(images[0], 4 * MIB)
    assert left(bea) == names(images[0])
    monkeypatch.setattr(module, "is_short", lambda *_: True)
    await cache.sweep()
    assert left(bea) == set()


async def pack_of(bea: NodeFolder, content: bytes) -> Digest:
    """Store a pack with one file."""
    folder = bea.folder / "source"
    folder.mkdir(exist_ok=True)
    (folder / "file").write_bytes(content)
    data = b"".join(pack_chunks([PackEntry("file", "file", len(content))], folder))
    return (await bea.blobs.put_bytes(data, "input")).digest


async def test_a_pack_is_unpacked_once_and_evicted_like_an_image(
    bea: NodeFolder, images: list[Digest]
) -> None:
    cache, pack = cache_of(bea, 7), await pack_of(bea, b"x" * SIZE)
    root = await cache.unpack_pack(pack)
    inode = (root / "file").stat().st_ino
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(cache.unpack_pack, pack)
    assert (root / "file").stat().st_ino == inode
    cache.pin(LEASE, images[0], pack)
    await cache.unpack(images[0], 4 * MIB)
    with pytest.raises(StorageFull):
        await cache.unpack(images[1], 4 * MIB)
    assert left(bea) == {*names(images[0]), root.name}
    again = cache_of(bea, 7)  # A new start finds it by its name.
    await again.unpack(images[0], 4 * MIB)
    await again.unpack(images[1], 4 * MIB)
    assert left(bea) == names(*images[:2])


async def test_two_leases_that_need_a_pack_at_once_share_it(bea: NodeFolder) -> None:
    cache, pack = cache_of(bea, 10), await pack_of(bea, b"x" * SIZE)
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(cache.unpack_pack, pack)
    assert left(bea) == {f"{pack.hex()}.pack"}
    assert (cache._unpacking, cache._locks) == (0, {})


async def test_a_pack_that_is_gone_or_is_none(bea: NodeFolder) -> None:
    cache, pack = cache_of(bea, 10), await pack_of(bea, b"x")
    await bea.blobs.drop(pack)
    with pytest.raises(BlobUnavailable, match="is no longer stored here"):
        await cache.unpack_pack(pack)
    other = await bea.blobs.put_bytes(b"x" * 600, "input")
    with pytest.raises(InvalidRequest, match="not a tar archive"):
        await cache.unpack_pack(other.digest)
    assert left(bea) == set()
