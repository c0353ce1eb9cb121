"""Images come whole and verified, or not at all; what is here is not fetched again.

Spec: specs/registries.md#pull.
"""

import json
import os

import pytest
import trio

from node.data.images import Images
from node.data.manifest import own_platform
from node.registry import client as client_module
from node.registry import pull as pull_module
from node.registry.client import RegistryClient
from node.registry.errors import PlatformMismatch, RegistryLied, RegistryUnavailable
from node.registry.pull import look_up, pull
from node.registry.reference import Reference
from protocol.values.errors import InvalidRequest, StorageFull
from protocol.values.ids import digest_of
from tests.node.registry.hostile_registry import INDEX, MANIFEST, Asked, Reply, described, sha
from tests.node.registry.real_registry import needs_registry, tar_of

OURS = own_platform()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "PAUSE_S", 0.001)
    monkeypatch.setattr(pull_module, "PAUSE_S", 0.001)


async def pulled(blobs, text: str, platform: str = "linux/amd64", told: list | None = None):
    async def report(done: int, total: int) -> None:
        await trio.lowlevel.checkpoint()
        if told is not None:
            told.append((done, total))

    client = RegistryClient(Reference.parse(text))
    try:
        found = await look_up(client, platform)
        return await pull(client, blobs, found, "test", report)
    finally:
        await client.close()


def of_blob(data: bytes):
    return f"/v2/team/app/blobs/{sha(data)}"


async def test_an_image(blobs, hostile) -> None:
    layers = [os.urandom(3_000_000), b"two", b"", b"two"]
    manifest = hostile.add_image(*layers)
    told: list[tuple[int, int]] = []
    digest = await pulled(blobs, f"{hostile.name}/team/app:1", told=told)
    assert digest == digest_of(manifest)
    assert [await blobs.read(digest_of(each)) for each in layers] == layers
    total = json.loads(manifest)["config"]["size"] + 3_000_003
    assert told[-1] == (total, total)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert len(hostile.asked) == 5  # The config twice; the empty layer is not asked for.
    hostile.add_image(*layers, b"three", tag="2")
    hostile.asked.clear()
    await pulled(blobs, f"{hostile.name}/team/app:2")
    config = hostile.paths()[1]
    assert hostile.paths() == ["/v2/team/app/manifests/2", config, config, of_blob(b"three")]


async def test_a_platform_is_chosen(blobs, hostile) -> None:
    arm = hostile.add_image(b"arm", tag="arm", architecture="arm", variant="v7")
    ours = hostile.add_image(b"ours", tag="ours")
    entries = [
        described(b"", MANIFEST, platform={"os": "unknown", "architecture": "unknown"}),
        described(arm, MANIFEST, platform={"os": "linux", "architecture": "arm", "variant": "v7"}),
        described(ours, MANIFEST, platform={"os": "linux", "architecture": "amd64"}),
    ]
    hostile.add_manifest(json.dumps({"schemaVersion": 2, "manifests": entries}).encode())
    name = f"{hostile.name}/team/app:1"
    assert await pulled(blobs, name) == digest_of(ours)
    assert await pulled(blobs, name, "linux/arm") == digest_of(arm)
    assert await pulled(blobs, name, "linux/arm/v7") == digest_of(arm)
    with pytest.raises(PlatformMismatch) as caught:
        await pulled(blobs, name, "linux/s390x")
    assert str(caught.value).endswith(
        "has no image for linux/s390x; it has: linux/amd64, linux/arm/v7"
    )
    client = RegistryClient(Reference.parse(f"{hostile.name}/team/app:arm"))
    with pytest.raises(PlatformMismatch, match=r"it has: linux/arm/v7$"):
        await look_up(client, "linux/amd64")
    hostile.script = lambda asked: Reply(b"{}") if "blobs" in asked.path else None
    with pytest.raises(RegistryLied, match="another digest"):
        await look_up(client, "linux/amd64")
    await client.close()


async def test_a_lost_connection_resumes(blobs, hostile) -> None:
    data = os.urandom(2_500_000)
    hostile.add_image(data)
    cuts = iter([1_200_000, 0, 2])

    def cut(asked: Asked) -> Reply | None:
        if asked.path != of_blob(data) or (sent := next(cuts, None)) is None:
            return None
        hostile.script = lambda _: None
        reply = hostile.answer_to(asked)
        hostile.script = cut
        return Reply(reply.body, reply.status, reply.headers, sent=sent)

    hostile.script = cut
    await pulled(blobs, f"{hostile.name}/team/app:1")
    ranges = [each.headers.get("range") for each in hostile.asked if each.path == of_blob(data)]
    assert ranges[0] is None
    assert all(each.startswith("bytes=") for each in ranges[1:])
    assert len(ranges) == 4


@pytest.mark.parametrize("ranges", [True, False])
async def test_an_interrupted_pull_resumes_if_the_registry_can(blobs, hostile, ranges) -> None:
    data = os.urandom(2_500_000)
    hostile.add_image(data)
    hostile.script = lambda asked: (
        Reply(data, sent=1_500_000) if asked.path == of_blob(data) and len(hostile.asked) < 5
        else Reply(status=404) if asked.path == of_blob(data) else None
    )  # fmt: skip
    with pytest.raises(Exception, match="has no team/app"):
        await pulled(blobs, f"{hostile.name}/team/app:1")
    hostile.script, hostile.ranges = lambda _: None, ranges
    hostile.asked.clear()
    await pulled(blobs, f"{hostile.name}/team/app:1")
    assert await blobs.read(digest_of(data)) == data
    (asked,) = [each for each in hostile.asked if each.path == of_blob(data)]
    assert asked.headers["range"] != "bytes=0-"


async def test_lies_leave_nothing(blobs, hostile) -> None:
    data = b"what was promised"
    manifest = hostile.add_image(data)
    place = of_blob(data)
    for lie, line in ((b"what was delivere", "another digest"), (data * 2, "more than 17 bytes")):
        hostile.content[place] = lie
        with pytest.raises(RegistryLied, match=line):
            await pulled(blobs, f"{hostile.name}/team/app:1")
    hostile.content[place] = b"short"
    with pytest.raises(RegistryLied, match="fewer bytes"):
        await pulled(blobs, f"{hostile.name}/team/app:1")
    hostile.ranges = False
    with pytest.raises(RegistryUnavailable, match="does not send all of the blob"):
        await pulled(blobs, f"{hostile.name}/team/app:1")
    assert blobs.ref(digest_of(data)) is blobs.ref(digest_of(manifest)) is None
    hostile.content[place] = data
    await pulled(blobs, f"{hostile.name}/team/app:1")


@pytest.mark.parametrize(
    "data, line",
    [
        (b"x", "not JSON"),
        (b"[]", "not JSON object"),
        (b"{}", "not one of an OCI image"),
        (b'{"mediaType": 7}', "invalid 'mediaType'"),
        (b'{"mediaType": "application/vnd.docker.distribution.manifest.v1+json"}', "not one of"),
        (json.dumps({"mediaType": INDEX, "manifests": [7]}).encode(), "not a JSON object"),
    ],
)
async def test_documents_that_are_no_image(blobs, hostile, data: bytes, line: str) -> None:
    hostile.add_manifest(data)
    with pytest.raises(InvalidRequest, match=line):
        await pulled(blobs, f"{hostile.name}/team/app:1")


async def test_an_image_that_does_not_fit(blobs, hostile) -> None:
    hostile.add_image(bytes(2_000_000))
    blobs._budget = 1_000_000
    with pytest.raises(StorageFull):
        await pulled(blobs, f"{hostile.name}/team/app:1")


async def test_two_pulls_of_one_image_share_the_work(blobs, hostile) -> None:
    data = os.urandom(100_000)
    hostile.add_image(data)
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(pulled, blobs, f"{hostile.name}/team/app:1")
    assert hostile.paths().count(of_blob(data)) == 1


@needs_registry
@pytest.mark.slow
@pytest.mark.parametrize("packing", ["+gzip", "+zstd", ""])
async def test_a_real_registry(blobs, real, tmp_path, packing: str) -> None:
    lower = tar_of(("etc", "/"), ("etc/old", b"old"), ("big", os.urandom(2_000_000)))
    upper = tar_of(("etc/new", b"new"), ("etc/.wh.old", b""))
    pushed = real.push("team/real", [lower, upper], packing, f"t{packing[1:]}", User="1000")
    name = f"{real.name}/team/real"
    digest = await pulled(blobs, f"{name}:t{packing[1:]}", OURS)
    assert pushed == f"sha256:{digest.hex()}"
    assert await pulled(blobs, f"{name}@{pushed}", OURS) == digest
    images = Images(blobs, tmp_path / "blobs")
    root = await images.unpack(digest, tmp_path)
    assert (root / "etc/new").read_bytes() == b"new"
    assert not (root / "etc/old").exists()
    assert (root / "big").stat().st_size == 2_000_000
    assert (await images.config(digest)).user == "1000"
