"""Paths that explain jobs. Spec: specs/rpc.md#routes."""

from tests.node.rpc.conftest import JOB


async def test_a_dry_run(caller):
    found = await caller.ask("POST", "/v1/jobs/dry-run", {**JOB, "where": "cpus>1"})
    assert found.status == 200
    assert (found.json["nodes"], found.json["job"]) == (2, None)
    assert found.json["changes"][0] == {"field": "memory_mib", "value": "7G", "nodes": 1}
    assert caller.service.specs[0].terms.where == "cpus>1"
    assert not caller.service.jobs_by_id
    for wrong in ({"where": "cpus<0"}, {"array": "0-9999999"}):
        refused = await caller.ask("POST", "/v1/jobs/dry-run", {**JOB, **wrong})
        assert (refused.status, refused.json["code"]) == (422, "invalid-request")


async def test_an_explanation(caller):
    job = (await caller.ask("POST", "/v1/jobs", JOB)).json
    found = await caller.ask("GET", f"/v1/jobs/{job['id']}/explanation")
    assert found.json["job"] == job
    assert found.json["waits"][0]["why"] == "4 refused: busy with other jobs"
    assert (await caller.ask("GET", "/v1/jobs/abcdef/explanation")).status == 404
