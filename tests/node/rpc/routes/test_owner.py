"""Paths by which the owner decides. Spec: specs/rpc.md#routes."""

import pytest


@pytest.mark.parametrize(
    "path, mode", [("pause", "paused"), ("drain", "draining"), ("resume", "open")]
)
async def test_the_owner_says_what_holds(caller, path, mode):
    assert (await caller.ask("POST", f"/v1/owner/{path}")).json["mode"] == mode
    assert (await caller.ask("GET", "/v1/owner")).json["mode"] == mode


async def test_refusals(caller):
    first, _ = (await caller.ask("GET", "/v1/owner/refusals")).json
    assert (first["rule"], first["count"]) == ("cpus", 2)


async def test_reload(caller):
    live, later = (await caller.ask("POST", "/v1/owner/reload")).json
    assert (live["key"], live["applies"], later["applies"]) == ("price.cpu_hour", True, False)


async def test_reclaim(caller):
    answer = await caller.ask("POST", "/v1/owner/reclaim", {"within_ms": 5_000})
    assert (answer.status, answer.json["jobs"], caller.service.asked) == (200, 2, 5_000)
    assert (await caller.ask("POST", "/v1/owner/reclaim", {})).status == 200
    assert caller.service.asked is None
    for bad in ({"within_ms": 300_001}, {"within_ms": -1}, {"within": 5}, {"within_ms": "5"}):
        assert (await caller.ask("POST", "/v1/owner/reclaim", bad)).status == 422
