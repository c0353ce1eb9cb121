"""A provider pulls public images itself where its owner allows it, and never depends on that.

Spec: specs/registries.md#providers.
"""

import base64
import json
from dataclasses import replace

import pytest

from node.provider import prepare as preparing
from node.provider.execution_context import pins_of
from node.provider.prepare import prepare
from protocol.machines.effects import Prepare
from protocol.machines.inputs import FetchProgressed
from protocol.values.errors import BlobUnavailable, InvalidRequest
from protocol.values.ids import digest_of
from protocol.wire.job import Workload
from tests.node.fixtures import ADA, LEASE, NodeFolder, RecordedInbox
from tests.node.registry.hostile_registry import Reply, serving
from tests.node.registry.real_registry import tar_of

LAYER = tar_of(("a", b"some bytes" * 2000))


@pytest.fixture
async def hostile(monkeypatch: pytest.MonkeyPatch, tmp_path):
    monkeypatch.setattr(preparing, "PAUSE_S", 0.001)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "*")
    async with serving() as registry:
        auth = base64.b64encode(b"bea:s3cret").decode()
        document = {"auths": {registry.name: {"auth": auth}}}
        (tmp_path / "config.json").write_text(json.dumps(document))
        yield registry


@pytest.fixture
async def job(ada: NodeFolder, hostile) -> Workload:
    """A job whose image only the registry has."""
    manifest = hostile.add_image(LAYER)
    return replace(
        await ada.workload(("in", b"1")), image=digest_of(manifest), image_bytes=40_000,
        registry=f"{hostile.name}/team/app",
    )  # fmt: skip


async def prepared(bea: NodeFolder, workload: Workload, *registries: str) -> RecordedInbox:
    inbox = RecordedInbox()
    context = replace(bea.context, registries=frozenset(registries))
    await prepare(context, Prepare(LEASE, ADA.peer_id, workload), inbox)
    return inbox


async def test_the_image_comes_from_the_registry(bea: NodeFolder, hostile, job) -> None:
    inbox = await prepared(bea, job, hostile.name)
    assert await bea.blobs.read(digest_of(LAYER)) == LAYER
    assert {job.image, digest_of(LAYER)} < bea.blobs._pins[pins_of(LEASE)]
    assert (await inbox.wait_for(FetchProgressed)).total == 40_001
    assert not any("authorization" in each.headers for each in hostile.asked)
    assert f"/v2/team/app/manifests/sha256:{job.image.hex()}" == hostile.paths()[0]
    hostile.asked.clear()
    await prepared(bea, job, hostile.name)
    assert not hostile.asked


@pytest.mark.parametrize("allowed", ["docker.io", "127.0.0.1:1"])
async def test_another_registry_is_not_asked(bea: NodeFolder, hostile, job, allowed: str) -> None:
    with pytest.raises(BlobUnavailable):  # The requester does not have it here.
        await prepared(bea, job, allowed)
    assert not hostile.asked


async def test_the_requester_has_what_the_registry_has_not(
    ada: NodeFolder, bea: NodeFolder, hostile
) -> None:
    workload = await ada.workload(("in", b"1"))
    for script, name in (
        (lambda _: None, "team/app"),
        (lambda _: Reply(b"{}"), "team/app"),
        (lambda _: Reply(status=429, headers={"retry-after": "9"}), "team/app"),
        (lambda _: Reply(status=401, headers={"www-authenticate": "Basic realm=x"}), "team/app"),
        (lambda _: None, "../../Team App"),
    ):
        hostile.script = script
        asked = replace(workload, registry=f"{hostile.name}/{name}")
        await prepared(bea, asked, hostile.name)
        assert not await bea.images.missing(workload.image)
        for part in await bea.images.parts(workload.image):
            await bea.blobs.drop(part.digest)


async def test_an_image_beyond_what_the_job_declares(bea: NodeFolder, hostile, job) -> None:
    with pytest.raises((BlobUnavailable, InvalidRequest)):
        await prepared(bea, replace(job, image_bytes=9), hostile.name)
    assert bea.blobs.ref(digest_of(LAYER)) is None
