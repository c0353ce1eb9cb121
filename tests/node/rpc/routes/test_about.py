"""Paths about the node. Spec: specs/rpc.md#routes."""

import pytest

from tests.node.rpc.recorded import PEER


async def test_status(caller):
    found = (await caller.ask("GET", "/v1/status")).json
    assert found["peer_id"] == PEER
    assert found["jobs"]["running"] == 1
    assert found["provider"]["free"]["memory_mib"] == 8192
    assert found["earned"] == "1.500000000"


@pytest.mark.parametrize("path,field", [("peers", "direction"), ("offers", "price_gpu_hour")])
async def test_lists(caller, path, field):
    (found,) = (await caller.ask("GET", f"/v1/{path}")).json
    assert found["peer"] == PEER
    assert field in found


async def test_stop(caller):
    assert (await caller.ask("POST", "/v1/stop")).status == 202
    assert caller.service.stopped
    assert (await caller.ask("GET", "/v1/stop")).status == 405
