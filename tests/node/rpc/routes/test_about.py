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


async def test_a_query_for_offers(caller):
    found = await caller.ask("GET", "/v1/offers?where=cpus%3E1&sort=-price&limit=3")
    assert found.status == 200
    assert caller.service.asked == ("cpus>1", "-price", 3)
    refused = await caller.ask("GET", "/v1/offers?where=cpu%3E1")
    assert (refused.status, refused.json["code"]) == (422, "invalid-query")
    assert refused.json["detail"].startswith("character 1: there is no field 'cpu'")
    assert (await caller.ask("GET", "/v1/offers?limit=0")).status == 422


async def test_prices(caller):
    (price,) = (await caller.ask("GET", "/v1/prices")).json
    assert (price["slot_class"], price["median_hour"]) == ("h200", "1.5000")


async def test_stop(caller):
    assert (await caller.ask("POST", "/v1/stop")).status == 202
    assert caller.service.stopped
    assert (await caller.ask("GET", "/v1/stop")).status == 405


async def test_bids(caller):
    found = (await caller.ask("GET", "/v1/bids?limit=1")).json
    assert [bid["result"] for bid in found] == ["lost"]
    assert (await caller.ask("GET", "/v1/bids?limit=10001")).status == 422
