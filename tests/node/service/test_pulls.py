"""A whole daemon pulls images for its owner. Spec: specs/registries.md#api."""

import base64
import json

import pytest
import trio

from node.registry.errors import ReferenceNotFound
from protocol.values.errors import InvalidRequest, NotFound
from protocol.values.ids import digest_of
from tests.node.local_node import LocalPair
from tests.node.registry.hostile_registry import serving
from tests.node.registry.hostile_registry import sha as hex_of


@pytest.fixture
async def hostile(monkeypatch: pytest.MonkeyPatch, tmp_path):
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "*")
    async with serving() as registry:
        yield registry


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

    def refuse(asked):
        from tests.node.registry.hostile_registry import Reply

        if asked.headers.get("authorization") == f"Basic {auth}":
            return None
        return Reply(status=401, headers={"www-authenticate": "Basic realm=x"})

    hostile.script = refuse
    assert await pair.ada.node.images.look_up(f"{hostile.name}/team/app:1", "linux/amd64")


async def test_what_cannot_be_looked_up(pair: LocalPair, hostile) -> None:
    images = pair.ada.node.images
    with pytest.raises(ReferenceNotFound):
        await images.look_up(f"{hostile.name}/team/app:9", "")
    with pytest.raises(InvalidRequest, match="no capital letters"):
        await images.look_up("Python", "")
    with pytest.raises(NotFound):
        await images.resolve("Python")
    assert hex_of(b"").startswith("sha256:")
