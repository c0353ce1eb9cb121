"""Paths about blobs and images. Spec: specs/rpc.md#routes."""

import hashlib

from tests.node.rpc.recorded import BASE


async def test_a_blob_is_kept_by_its_digest(caller):
    answer = await caller.ask("POST", "/v1/blobs", b"abc")
    assert answer.status == 201
    assert answer.json == {"digest": hashlib.sha256(b"abc").hexdigest(), "size": 3}
    assert (await caller.ask("POST", "/v1/blobs", b"")).json["size"] == 0


async def test_images(caller, tmp_path):
    archive = tmp_path / "img.tar"
    archive.write_bytes(b"x")
    imported = await caller.ask("POST", "/v1/images", {"path": str(archive)})
    assert (imported.status, imported.json["names"]) == (201, ["img"])
    assert (await caller.ask("POST", "/v1/images/base")).json["digest"] == BASE
    assert (await caller.ask("GET", "/v1/images")).json[0]["names"] == ["base"]
    assert (await caller.ask("GET", "/v1/images/resolve?reference=base")).json == BASE


async def test_what_is_refused(caller):
    relative = await caller.ask("POST", "/v1/images", {"path": "img.tar"})
    assert (relative.status, relative.json["detail"]) == (422, "path: give an absolute path")
    missing = await caller.ask("POST", "/v1/images", {"path": "/none.tar"})
    assert missing.status == 422
    assert (await caller.ask("GET", "/v1/images/resolve?reference=x")).status == 404
