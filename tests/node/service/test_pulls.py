"""A whole daemon pulls images for its owner. Spec: specs/registries.md#api."""

import base64
import json

import pytest
import trio

from node.data.origins import Origins
from node.registry.errors import ReferenceNotFound
from node.service.pulls import Puller
from protocol.values.errors import InvalidRequest, NotFound
from protocol.values.ids import digest_of
from tests.node.local_node import LocalPair
from tests.node.registry.hostile_registry import Reply, serving


@pytest.fixture
async def hostile(monkeypatch: pytest.MonkeyPatch, tmp_path):
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "*")
    async with serving() as registry:
        yield registry


def refusal() -> Reply:
    return Reply(status=401, headers={"www-authenticate": "Basic realm=x"})


async def test_an_image_is_named_by_its_reference(pair: LocalPair, hostile) -> None:
    told: list[tuple[int, int]] = []

    async def report(done: int, total: int) -> None:
        await trio.lowlevel.checkpoint()
        told.append((done, total))

    manifest = hostile.add_image(b"a layer", b"")
    name = f"{hostile.name}/team/app:1"
    images = pair.ada.node.images
    with pytest.raises(NotFound):
        await images.resolve(name)
    pull = await images.look_up(name, "linux/amd64")
    assert (pull.view.reference, pull.view.platform) == (name, "linux/amd64")
    view = await pull.run(report)
    assert (view.digest, view.names, view.size) == (pull.view.digest, (name,), pull.view.size)
    assert view.digest == digest_of(manifest).hex()
    assert told[-1][0] == told[-1][1] == view.size - len(manifest)
    assert await images.resolve(name) == view.digest
    hostile.add_image(b"newer")
    newer = await (await images.look_up(name, "linux/amd64")).run(report)
    assert await images.resolve(name) == newer.digest != view.digest
    pinned = f"{hostile.name}/team/app@sha256:{view.digest}"
    await (await images.look_up(pinned, "linux/amd64")).run(report)
    assert await images.resolve(pinned) == view.digest
    owners = pair.ada.node_folder.blobs._pins
    assert set(owners) == {f"name {name}", f"name {pinned}"}


async def test_the_owners_credentials_are_used(pair: LocalPair, hostile, tmp_path) -> None:
    auth = base64.b64encode(b"ada:s3cret").decode()
    document = {"auths": {hostile.name: {"auth": auth}}}
    (tmp_path / "config.json").write_text(json.dumps(document))
    hostile.add_image(b"a layer")

    known = {f"Basic {auth}"}
    hostile.script = lambda asked: (
        None if asked.headers.get("authorization") in known else refusal()
    )
    assert await pair.ada.node.images.look_up(f"{hostile.name}/team/app:1", "linux/amd64")


async def test_only_what_is_public_has_a_source(pair: LocalPair, hostile, tmp_path) -> None:
    async def report(_done: int, _total: int) -> None:
        await trio.lowlevel.checkpoint()

    images = pair.ada.node_folder.images
    path = tmp_path / "origins.json"
    puller = Puller(images, Origins(path), {hostile.name})
    hostile.add_image(b"a layer")
    found = await puller.look_up(f"{hostile.name}/team/app:1", "linux/amd64")
    image = await Puller(images, Origins(tmp_path / "other"), ()).pull(found, report)
    assert puller.source_of(image) == ""
    auth = base64.b64encode(b"ada:s3cret").decode()
    document = {"auths": {hostile.name: {"auth": auth}}}
    (tmp_path / "config.json").write_text(json.dumps(document))
    hostile.script = lambda asked: None if "authorization" in asked.headers else refusal()
    assert await puller.pull(found, report) == image
    assert puller.source_of(image) == "", "it is served with credentials only"
    hostile.script = lambda _: None
    await puller.pull(found, report)
    assert puller.source_of(image) == f"{hostile.name}/team/app"
    assert Origins(path).source_of(image) == puller.source_of(image)


async def test_what_cannot_be_looked_up(pair: LocalPair, hostile) -> None:
    images = pair.ada.node.images
    with pytest.raises(ReferenceNotFound):
        await images.look_up(f"{hostile.name}/team/app:9", "")
    with pytest.raises(InvalidRequest, match="no capital letters"):
        await images.look_up("Python", "")
    with pytest.raises(NotFound):
        await images.resolve("Python")
