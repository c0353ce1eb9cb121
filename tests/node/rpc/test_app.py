"""The app as a whole: its OpenAPI document and the spec agree. Spec: specs/rpc.md#routes."""

import re
from pathlib import Path

import trio

from node.rpc.app import make_app

SPEC = Path(__file__).parents[3] / "specs" / "rpc.md"


def routes_of(document) -> set[tuple[str, str]]:
    return {
        (method.upper(), re.sub(r"{(\w+)}", r"{\1}", path))
        for path, methods in document["paths"].items()
        for method in methods
    }


async def test_the_spec_lists_every_route(service):
    document = make_app(service.as_service(), trio.Event()).openapi()
    section = SPEC.read_text().split("## Routes")[1].split("\n## ")[0]
    listed = {
        (method, f"/v1{path}")
        for method, path in re.findall(r"\| (GET|POST) \| `([^`?]+)", section)
    }
    assert listed == routes_of(document)


async def test_every_route_documents_its_problems(caller):
    document = (await caller.ask("GET", "/v1/openapi.json")).json
    assert document["openapi"].startswith("3.1")
    for methods in document["paths"].values():
        for operation in methods.values():
            assert "application/problem+json" in operation["responses"]["4XX"]["content"]
            assert operation["description"]


async def test_no_page_loads_scripts_from_elsewhere(caller):
    assert (await caller.ask("GET", "/docs")).status == 404
    assert (await caller.ask("GET", "/redoc")).status == 404
