"""Paths about blobs and images. Spec: specs/rpc.md#routes."""

import hashlib
import json

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


def lines_of(answer) -> list[dict]:
    return [json.loads(line) for line in answer.body.splitlines()]


async def test_a_pull_reports_its_progress(caller):
    answer = await caller.ask("POST", "/v1/images/pull", {"reference": "a/b:1"})
    assert answer.headers["content-type"] == "application/jsonl"
    assert answer.whole
    found, *progress, image = lines_of(answer)
    assert found["found"] == {
        "reference": "docker.io/a/b:1", "digest": BASE, "platform": "linux/amd64", "size": 99,
    }  # fmt: skip
    assert progress == [{"progress": {"done": done, "total": 99}} for done in (50, 99)]
    assert image["image"]["names"] == ["docker.io/a/b:1"]


async def test_a_pull_that_fails(caller):
    absent = await caller.ask("POST", "/v1/images/pull", {"reference": "absent"})
    assert (absent.status, absent.json["code"]) == (404, "reference-not-found")
    broken = await caller.ask(
        "POST", "/v1/images/pull", {"reference": "broken", "platform": "linux/arm64"}
    )
    last = lines_of(broken)[-1]["error"]
    assert (last["code"], last["detail"]) == ("blob-unavailable", "docker.io: it cannot be reached")
    assert (await caller.ask("POST", "/v1/images/pull", {"ref": "x"})).status == 422


async def test_a_build_reports_its_log(caller, tmp_path):
    asked = {"path": str(tmp_path), "name": "mine"}
    lines = lines_of(await caller.ask("POST", "/v1/images/build", asked))
    assert lines[0] == {"log": "Step 1/1 : FROM Dockerfile"}
    assert lines[1]["image"]["names"] == ["mine"]
    failed = await caller.ask("POST", "/v1/images/build", asked | {"name": "broken"})
    assert lines_of(failed)[-1]["error"]["code"] == "invalid-request"
    relative = await caller.ask("POST", "/v1/images/build", asked | {"path": "here"})
    assert (relative.status, relative.json["detail"]) == (422, "path: give an absolute path")


async def test_what_is_refused(caller):
    relative = await caller.ask("POST", "/v1/images", {"path": "img.tar"})
    assert (relative.status, relative.json["detail"]) == (422, "path: give an absolute path")
    missing = await caller.ask("POST", "/v1/images", {"path": "/none.tar"})
    assert missing.status == 422
    assert (await caller.ask("GET", "/v1/images/resolve?reference=x")).status == 404
