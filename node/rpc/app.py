"""The API as one FastAPI app: its routes, its errors, its OpenAPI document.

Spec: specs/rpc.md.
"""

from typing import Any, Final

import trio
from fastapi import FastAPI

from node import VERSION
from node.rpc.problems import MEDIA_TYPE, Problem, install
from node.rpc.routes.about import about_routes
from node.rpc.routes.advice import advice_routes
from node.rpc.routes.content import content_routes
from node.rpc.routes.egress import egress_routes
from node.rpc.routes.gpus import gpu_routes
from node.rpc.routes.jobs import job_routes
from node.rpc.routes.owner import owner_routes
from node.rpc.routes.traces import trace_routes
from node.rpc.service import Service

PREFIX: Final = "/v1"
PROBLEM: Final[dict[str, Any]] = {
    "description": "A problem document (RFC 9457); `code` says which.",
    "content": {MEDIA_TYPE: {"schema": Problem.model_json_schema()}},
}


def make_app(service: Service, closing: trio.Event) -> FastAPI:
    """Return the app that exposes the service; its streams end when `closing` is set."""
    app = FastAPI(
        title="Mutirão node",
        version=VERSION,
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,  # The pages would load scripts from another host.
        redoc_url=None,
        responses={"4XX": PROBLEM, "5XX": PROBLEM},
        redirect_slashes=False,
    )
    install(app)
    routers = (
        about_routes(service.node),
        job_routes(service.jobs, service.images, closing),
        advice_routes(service.advice, service.images),
        content_routes(service.images, closing),
        trace_routes(service.traces, closing),
        owner_routes(service.owner),
        gpu_routes(service.gpus),
        egress_routes(service.egress),
    )
    for router in routers:
        app.include_router(router, prefix=PREFIX)
    return app
