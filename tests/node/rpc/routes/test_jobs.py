"""Paths about jobs. Spec: specs/rpc.md#routes."""

import hashlib
import io
import tarfile

from tests.node.rpc.conftest import JOB
from tests.node.rpc.recorded_images import BASE


async def test_submit_resolves_the_image(caller):
    answer = await caller.ask("POST", "/v1/jobs", JOB | {"cpus": 2})
    assert (answer.status, answer.json["phase"]) == (201, "announced")
    (spec,) = caller.service.specs
    assert spec.workload.image.hex() == answer.json["image"]
    assert spec.workload.resources.cpus == 2


async def test_an_unknown_image(caller):
    answer = await caller.ask("POST", "/v1/jobs", JOB | {"image": "bsae"})
    assert (answer.status, answer.json["code"]) == (404, "reference-not-found")
    never = await caller.ask("POST", "/v1/jobs", JOB | {"image": "bsae", "pull": "never"})
    assert (never.status, never.json["code"]) == (404, "not-found")
    assert not caller.service.specs


async def test_an_image_of_a_registry(caller):
    answer = await caller.ask("POST", "/v1/jobs", JOB | {"image": "a/b:1", "pull": "always"})
    assert (answer.status, answer.json["image"]) == (201, BASE)
    assert caller.service.pulls == ["always"]
    assert caller.service.specs[0].image_name == "docker.io/a/b:1"
    wrong = await caller.ask("POST", "/v1/jobs", JOB | {"pull": "sometimes"})
    assert (wrong.status, wrong.json["errors"][0]["field"]) == (422, "pull")
    found = await caller.ask("POST", "/v1/jobs/dry-run", JOB | {"image": "a/b:1"})
    assert found.status == 200


async def test_the_same_key_is_the_same_job(caller):
    first = await caller.ask("POST", "/v1/jobs", JOB, idempotency_key="k1")
    again = await caller.ask("POST", "/v1/jobs", JOB, idempotency_key="k1")
    other = await caller.ask("POST", "/v1/jobs", JOB | {"command": ["false"]}, idempotency_key="k1")
    assert first.json["id"] == again.json["id"]
    assert (other.status, other.json["code"]) == (409, "conflict")
    assert caller.service.specs[0].key == b"k1"
    too_long = await caller.ask("POST", "/v1/jobs", JOB, idempotency_key="k" * 65)
    assert too_long.status == 422


async def test_list_page_by_page(caller):
    ids = [await caller.submit(name=str(n)) for n in range(3)]
    page = (await caller.ask("GET", "/v1/jobs?limit=2")).json
    rest = (await caller.ask("GET", f"/v1/jobs?limit=2&before={page[-1]['id']}")).json
    assert [job["id"] for job in page + rest] == ids[::-1]


async def test_one_job_by_prefix_and_cancel(caller):
    job_id = await caller.submit()
    assert (await caller.ask("GET", f"/v1/jobs/{job_id[:6]}")).json["id"] == job_id
    cancelled = await caller.ask("POST", f"/v1/jobs/{job_id[:6]}/cancel")
    assert cancelled.json["phase"] == "cancelled"


async def test_streams_of_an_unknown_job_are_not_found(caller):
    for path in ("events", "logs", "outputs", "outputs/a", "archive"):
        assert (await caller.ask("GET", f"/v1/jobs/abcdef/{path}")).status == 404


async def test_logs_are_bytes_and_resume(caller):
    job_id = await caller.submit()
    caller.service.say(job_id, b"\x00\xffdata")
    whole = await caller.ask("GET", f"/v1/jobs/{job_id}/logs")
    part = await caller.ask("GET", f"/v1/jobs/{job_id}/logs?offset=2")
    assert (whole.body, part.body) == (b"\x00\xffdata", b"data")
    assert whole.headers["content-type"] == "application/octet-stream"


async def test_outputs(caller):
    job_id = await caller.submit()
    data = bytes(range(256)) * 4096
    caller.service.leave(job_id, "deep/é file", data)
    (listed,) = (await caller.ask("GET", f"/v1/jobs/{job_id}/outputs")).json
    found = await caller.ask("GET", f"/v1/jobs/{job_id}/outputs/deep/%C3%A9%20file")
    assert found.body == data
    assert found.headers["etag"] == f'"{listed["digest"]}"'
    assert listed["digest"] == hashlib.sha256(data).hexdigest()
    missing = await caller.ask("GET", f"/v1/jobs/{job_id}/outputs/..%2F..%2Fetc")
    assert (missing.status, missing.json["code"]) == (404, "not-found")


async def test_all_outputs_at_once(caller):
    job_id = await caller.submit()
    for name in ("b", "deep/é file", "c"):
        caller.service.leave(job_id, name, name.encode())
    found = await caller.ask("GET", f"/v1/jobs/{job_id}/archive")
    with tarfile.open(fileobj=io.BytesIO(found.body)) as archive:
        assert archive.getnames() == ["b", "deep/é file", "c"]
        assert archive.extractfile("c").read() == b"c"


async def test_an_output_whose_bytes_are_gone(caller):
    job_id = await caller.submit()
    caller.service.leave(job_id, "a", b"x")
    for file in caller.service.folder.glob("?" * 64):
        file.unlink()
    for path in ("outputs/a", "archive"):
        answer = await caller.ask("GET", f"/v1/jobs/{job_id}/{path}")
        assert (answer.status, answer.json["code"]) == (502, "blob-unavailable")


async def test_an_array_and_a_list_of_jobs(caller):
    array = await caller.ask("POST", "/v1/jobs", JOB | {"array": "0-4:2,9"})
    assert (array.status, array.json["size"], array.json["phase"]) == (201, 4, "queued")
    path = f"/v1/jobs/{array.json['id']}"
    page = (await caller.ask("GET", f"{path}/members?limit=2&after=0")).json
    assert [member["index"] for member in page] == [2, 4]
    assert (await caller.ask("POST", f"{path}/retry")).json["id"] == array.json["id"]
    log = await caller.ask("GET", f"{path}/logs")
    assert (log.status, log.json["code"]) == (409, "conflict")
    assert "name one of its jobs" in log.json["detail"]
    jobs = [JOB | {"cpus": 1}, JOB | {"cpus": 2}]
    assert (await caller.ask("POST", "/v1/jobs", jobs)).json["size"] == 2
    assert [spec.workload.resources.cpus for spec in caller.service.specs[4:]] == [1, 2]
    wrong = await caller.ask("POST", "/v1/jobs", [JOB, JOB | {"cpus": 0}])
    assert (wrong.status, wrong.json["code"]) == (422, "invalid-request")
    assert len(caller.service.specs) == 6, "all are checked before the first is made"
    assert (await caller.ask("GET", "/v1/jobs/abcdef/members")).status == 404
