"""An image is its blobs: named, looked at, kept from the sweeper, unpacked once.

Spec: specs/data.md#images.
"""

import gzip
import json
import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import trio

from node.data import images as images_module
from node.data.blobs import BlobRef
from node.data.images import Image, Images
from node.data.layers import Allowance
from node.data.manifest import own_platform
from node.data.transfer import BlobFetcher, BlobServer
from protocol.values.errors import BlobUnavailable, Conflict, InvalidRequest, NotFound
from protocol.values.ids import PeerId, digest_of

MIB = 1024 * 1024


@pytest.fixture
async def blobs(open_blobs):
    return await open_blobs()


@pytest.fixture
def images(blobs, tmp_path: Path) -> Images:
    return Images(blobs, tmp_path / "blobs")


async def test_parts_and_what_is_missing(blobs, images, make_image, tar) -> None:
    image = await make_image(blobs, tar(("a", b"1")), tar(("a", b"2")))
    manifest, _, low, high = await images.parts(image)
    assert manifest == blobs.ref(image)
    assert await images.missing(image) == ()
    await blobs.drop(low.digest)
    assert await images.missing(image) == (low,)
    assert await images.known() == ()
    with pytest.raises(BlobUnavailable, match="incomplete"):
        await images.unpack(image, Path("nowhere"))
    await blobs.drop(image)
    with pytest.raises(BlobUnavailable, match="not here"):
        await images.parts(image)
    assert high.size > 0


async def test_a_blob_that_is_no_manifest(blobs, images) -> None:
    ref = await blobs.put_bytes(b"{}", "image")
    with pytest.raises(InvalidRequest):
        await images.parts(ref.digest)
    assert await images.known() == ()


async def test_config(blobs, images, make_image, tar) -> None:
    image = await make_image(blobs, tar(("a", b"")), config={"Cmd": ["x"], "Env": ["A=b=c"]})
    config = await images.config(image)
    assert (config.cmd, config.env, config.user) == (("x",), (("A", "b=c"),), "")


async def test_a_config_is_read_once_and_not_kept_beyond_its_blob(
    blobs, images, make_image, tar, monkeypatch
) -> None:
    image = await make_image(blobs, tar(("a", b"")))
    await images.config(image)
    read = []
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path) or b"")
    await images.config(image)
    assert read == []
    monkeypatch.undo()
    await blobs.drop(image)
    with pytest.raises(BlobUnavailable):
        await images.config(image)


async def test_names(blobs, images, make_image, tar, tmp_path: Path) -> None:
    first, second = [await make_image(blobs, tar(("a", data))) for data in (b"1", b"2")]
    await images.tag("mine", first)
    await images.tag("team/app:1.0", second)
    assert images.resolve("mine") == first
    assert {image.names for image in await images.known()} == {("mine",), ("team/app:1.0",)}
    again = Images(blobs, tmp_path / "blobs")
    assert again.resolve("team/app:1.0") == second
    await again.untag("mine")
    await again.tag("team/app:1.0", first)
    assert again.resolve("team/app:1.0") == first
    with pytest.raises(NotFound, match=r"'mine'; there are: team/app:1\.0"):
        Images(blobs, tmp_path / "blobs").resolve("mine")
    with pytest.raises(NotFound):
        await again.untag("mine")
    with pytest.raises(InvalidRequest, match="not an image name"):
        await images.tag("a b", first)
    with pytest.raises(BlobUnavailable):
        await images.tag("absent", digest_of(b"absent"))


async def test_digests_and_their_beginnings(blobs, images, make_image, tar, monkeypatch) -> None:
    image = await make_image(blobs, tar(("a", b"1")))
    absent = digest_of(b"absent")
    assert images.resolve(f"sha256:{absent.hex()}") == absent
    assert images.resolve(absent.hex()) == absent
    assert images.resolve(image.hex()[:12]) == image
    for wrong in (image.hex()[:11], "0" * 12, (await images.parts(image))[1].digest.hex()[:12]):
        with pytest.raises(NotFound):
            images.resolve(wrong)
    for wrong in ("sha256:12", "x" * 64):
        with pytest.raises(InvalidRequest):
            images.resolve(wrong)
    await make_image(blobs, tar(("a", b"2")))
    monkeypatch.setattr(images_module, "PREFIX_MIN", 0)
    with pytest.raises(Conflict, match="several images"):
        images.resolve("")


async def test_named_images_are_not_swept(open_blobs, make_image, tar, tmp_path: Path) -> None:
    blobs = await open_blobs(budget_mib=2)
    images = Images(blobs, tmp_path / "blobs")
    kept = await make_image(blobs, tar(("a", os.urandom(MIB))))
    await images.tag("kept", kept)
    await blobs.put_bytes(os.urandom(MIB // 2), "input")
    await blobs.put_bytes(os.urandom(MIB // 2), "input")
    assert await images.missing(kept) == ()

    reborn = await open_blobs(budget_mib=2)
    images = Images(reborn, tmp_path / "blobs")
    await images.reconcile()
    await reborn.put_bytes(os.urandom(MIB - 40_000), "input")
    assert await images.missing(kept) == ()
    await images.untag("kept")
    await reborn.put_bytes(os.urandom(MIB), "input")
    await reborn.put_bytes(os.urandom(MIB - 1), "input")
    assert reborn.ref(kept) is None


async def test_a_name_without_its_image_is_only_a_warning(
    blobs, images, make_image, tar, caplog, tmp_path: Path
) -> None:
    image = await make_image(blobs, tar(("a", b"1")))
    await images.tag("lost", image)
    await blobs.drop(image)
    await Images(blobs, tmp_path / "blobs").reconcile()
    assert "the image named lost cannot be used" in caplog.text


async def test_callers_share_one_unpacking(blobs, images, make_image, tar, tmp_path) -> None:
    image = await make_image(blobs, tar(("a", b"1")))
    roots: list[Path] = []

    async def unpack() -> None:
        roots.append(await images.unpack(image, tmp_path / "roots"))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(unpack)
    assert roots == [tmp_path / "roots" / image.hex()] * 5
    before = roots[0].stat().st_ctime_ns
    await unpack()
    assert roots[0].stat().st_ctime_ns == before
    assert not images._unpacking


async def test_nothing_is_remembered_of_an_image_that_cannot_be_unpacked(
    blobs, images, make_image, tar, tmp_path
) -> None:
    image = await make_image(blobs, tar(("a", b"1")), blob=b"no tar")
    with pytest.raises(InvalidRequest):
        await images.unpack(image, tmp_path / "roots")
    assert not images._unpacking


async def test_docker_archive_and_back(
    blobs, images, make_image, tar, tmp_path, open_blobs
) -> None:
    layers = (tar(("a", b"1")), tar(("b", b"2")), tar(("a", b"1")))
    image = await make_image(blobs, *layers, config={"Cmd": ["x"]})
    await images.docker_archive(image, tmp_path / "saved.tar")
    other = await open_blobs("other")
    theirs = Images(other, tmp_path / "other")
    imported = await theirs.import_path(tmp_path / "saved.tar")
    assert (await theirs.known())[0].names == (f"mutirao:{image.hex()}",)
    config = await images.config(image)
    ours = {"cmd": (), "created": "", "platform": own_platform()}
    assert await theirs.config(imported) == replace(config, **ours)
    assert (await theirs.parts(imported))[2:] == (await images.parts(image))[2:]


async def test_docker_gets_no_more_than_would_be_unpacked(
    blobs, images, make_image, tar, tmp_path
) -> None:
    """The engine unpacks as root and without a bound."""
    bomb = tar(("a", bytes(80 * MIB)))
    bombs = await make_image(blobs, bomb, blob=gzip.compress(bomb))
    with pytest.raises(InvalidRequest, match="gzip bomb"):
        await images.docker_archive(bombs, tmp_path / "saved.tar")
    small = tar(("a", b"1"), ("b", b"2"))
    for refused, allowance, *layers in (
        ("more than 1 files", Allowance(entries_max=1), small),
        ("more than 3 files", Allowance(entries_max=3), small, small),
        ("more than the allowed", Allowance(bytes_max=len(small) - 1), small),
        ("not a tar", Allowance(), b"no archive" * 100),
    ):
        image = await make_image(blobs, *layers)
        with pytest.raises(InvalidRequest, match=refused):
            await images.docker_archive(image, tmp_path / "saved.tar", allowance)
        assert [path.name for path in tmp_path.iterdir()] == ["blobs"]
    image = await make_image(blobs, small, small)
    await images.docker_archive(image, tmp_path / "saved.tar", Allowance(entries_max=4))


@pytest.mark.parametrize("part", [0, 1], ids=["config", "layer"])
@pytest.mark.parametrize("wrong", [-1, 1])
async def test_a_manifest_with_a_wrong_size_is_refused(
    blobs, images, make_image, tar, tmp_path: Path, part: int, wrong: int
) -> None:
    """By its size a provider judges an image, before and after it fetched it."""
    image = await make_image(blobs, tar(("a", b"1")))
    document = json.loads(await blobs.read(image))
    described = [document["config"], *document["layers"]][part]
    described["size"] += wrong
    lying = (await blobs.put_bytes(json.dumps(document).encode(), "image")).digest
    saved = tmp_path / "saved.tar"
    for use in (
        partial(images.parts, lying),
        partial(images.unpack, lying, tmp_path / "roots"),
        partial(images.docker_archive, lying, saved),
        partial(images.tag, "lying", lying),
    ):
        with pytest.raises(InvalidRequest, match=f"manifest says {described['size']}"):
            await use()
    assert lying not in [known.digest for known in await images.known()]
    assert not saved.exists()


async def test_a_provider_fetches_the_manifest_first(
    blobs, images, make_image, tar, peers, open_blobs, tmp_path: Path
) -> None:
    image = await make_image(blobs, tar(("a", os.urandom(2 * MIB))))
    holder = PeerId("holder")
    peers.handlers[holder] = BlobServer(blobs).serve
    theirs = await open_blobs("provider")
    fetcher = BlobFetcher(theirs, peers.ways)
    provider = Images(theirs, tmp_path / "provider")
    await fetcher.fetch(image, [holder], "image", MIB)
    for ref in await provider.missing(image):
        assert await fetcher.fetch(ref.digest, [holder], "image", ref.size) == ref
    assert [known.digest for known in await provider.known()] == [image]
    root = await provider.unpack(image, tmp_path / "roots")
    assert (root / "a").stat().st_size == 2 * MIB


async def test_build_base(images, tmp_path: Path, monkeypatch) -> None:
    """With a stand-in for the layer: test_base_image builds the real one."""
    layer = images_module.base_image.BuiltLayer(3, digest_of(b"raw"))
    monkeypatch.setattr(
        images_module.base_image, "write_layer", lambda file: file.write(b"abc") and layer
    )
    told: list[str] = []
    first = await images.build_base(told.append)
    assert await images.build_base() == first
    assert images.resolve("base") == first
    assert told
    assert (await images.parts(first))[2] == BlobRef(digest_of(b"abc"), 3)
    assert await images.known() == (
        Image(
            first, ("base",), sum(r.size for r in await images.parts(first)), "1970-01-01T00:00:00Z"
        ),
    )
    assert not [path for path in (tmp_path / "blobs").iterdir() if path.name.startswith("tmp")]
