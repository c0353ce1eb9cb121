"""Images and uploads of a whole daemon, and what it says to a job that needs others.

Spec: specs/rpc.md#service.
"""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import trio

from node.data.manifest import own_platform
from node.rpc.requests import JobImage, digest_of_hex
from node.service import images as images_module
from protocol.values.errors import NotFound, StorageFull
from protocol.values.ids import digest_of
from tests.node.fixtures import ref_of, spec_of
from tests.node.local_node import LocalPair
from tests.node.registry.hostile_registry import serving
from tests.node.sandbox.conftest import needs_engine


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        await trio.lowlevel.checkpoint()
        yield part


async def test_uploads(pair: LocalPair) -> None:
    view = await pair.ada.node.images.put_blob(chunks(b"ab", b"", b"c"))
    assert (view.digest, view.size) == (digest_of(b"abc").hex(), 3)
    assert await pair.ada.node_folder.blobs.read(digest_of(b"abc")) == b"abc"
    assert (await pair.ada.node.images.put_blob(chunks())).size == 0
    incoming = pair.ada.node_folder.folder / "blobs" / "incoming"
    assert list(incoming.iterdir()) == []


async def test_an_upload_that_finds_no_room(pair: LocalPair) -> None:
    pair.ada.node_folder.blobs._budget = 10
    with pytest.raises(StorageFull):
        await pair.ada.node.images.put_blob(chunks(b"x" * 11))


async def test_images(pair: LocalPair) -> None:
    image = await pair.ada.node_folder.image()
    await pair.ada.node_folder.images.tag("tiny", image)
    assert await pair.ada.node.images.resolve("tiny") == image.hex()
    (view,) = await pair.ada.node.images.known()
    assert (view.digest, view.names) == (image.hex(), ("tiny",))


async def test_an_image_is_ready_for_a_job(pair: LocalPair, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "*")
    image = await pair.ada.node_folder.image()
    await pair.ada.node_folder.images.tag("tiny", image)
    images = pair.ada.node.images
    assert await images.ready("tiny", "missing") == JobImage(image.hex(), "tiny")
    assert await images.ready(image.hex(), "never") == JobImage(image.hex())
    async with serving() as registry:
        architecture = own_platform().split("/")[1]
        first = registry.add_image(b"a layer", architecture=architecture)
        name = f"{registry.name}/team/app:1"
        with pytest.raises(NotFound, match="no image is named"):
            await images.ready(name, "never")
        found = JobImage(digest_of(first).hex(), name)
        assert await images.looked_up(name) == found
        assert not any(name in view.names for view in await images.known())
        assert await images.ready(name, "missing") == found
        second = registry.add_image(b"newer", architecture=architecture)
        assert await images.ready(name, "missing") == await images.looked_up(name) == found
        assert (await images.ready(name, "always")).digest == digest_of(second).hex()
    for nothing in ("No such thing", "0123456789ab"):
        with pytest.raises(NotFound, match="there are: "):
            await images.ready(nothing, "missing")


@pytest.mark.docker
@needs_engine
async def test_an_image_is_built_and_named(pair: LocalPair, tmp_path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\nUSER 7\n")
    told: list[str] = []

    async def tell(line: str) -> None:
        await trio.lowlevel.checkpoint()
        told.append(line)

    view = await pair.ada.node.images.build(tmp_path, "Dockerfile", "built", tell)
    assert (view.names, await pair.ada.node.images.resolve("built")) == (("built",), view.digest)
    assert (await pair.ada.node_folder.images.config(digest_of_hex(view.digest))).user == "7"
    assert any("FROM scratch" in line for line in told)
    incoming = pair.ada.node_folder.folder / "blobs" / "incoming"
    assert list(incoming.iterdir()) == []


async def test_jobs_that_are_not_taken_on(pair: LocalPair, monkeypatch: pytest.MonkeyPatch) -> None:
    workload = await pair.ada.node_folder.workload(("in", b"input"))
    missing = replace(workload, image=digest_of(b"missing"))
    with pytest.raises(NotFound, match="image"):
        await pair.jobs.submit(spec_of(missing))
    gone = replace(workload.inputs[0], blob=ref_of(b"gone"))
    with pytest.raises(NotFound, match="upload"):
        await pair.jobs.submit(spec_of(replace(workload, inputs=(gone,))))
    parts = await pair.ada.node_folder.images.parts(workload.image)
    await pair.ada.node_folder.blobs.drop(parts[-1].digest)
    with pytest.raises(NotFound, match="image"):
        await pair.jobs.submit(spec_of(workload))
    monkeypatch.setattr(images_module, "DISK_BYTES_MIN", 2**62)
    with pytest.raises(StorageFull, match="free some space"):
        await pair.jobs.submit(spec_of(workload))
    assert await pair.jobs.page(10, None) == ()
    assert pair.ada.node_folder.blobs._pins == {}
