"""The route of traces: what this node saw, for the laboratory.

Spec: specs/rpc.md#routes.
"""

from typing import Annotated, Final

import trio
from fastapi import APIRouter, Query
from starlette.responses import Response

from node.rpc.live import LiveLines, closing_bytes
from node.rpc.service import TraceApi

MS_MAX: Final = 2**53
FOLLOW_MS_MAX: Final = 90 * 24 * 3_600_000


def trace_routes(traces: TraceApi, closing: trio.Event) -> APIRouter:
    """Return the route about traces; it ends when `closing` is set."""
    router = APIRouter(tags=["traces"])

    @router.get(
        "/trace",
        response_class=Response,
        responses={200: {"content": {"application/jsonl": {}}}},
    )
    async def trace(
        since_ms: Annotated[int | None, Query(ge=0, le=MS_MAX)] = None,
        follow_ms: Annotated[int | None, Query(ge=0, le=FOLLOW_MS_MAX)] = None,
    ) -> Response:
        """Return an anonymised trace of jobs, offers and round trips: specs/trace.md."""
        return LiveLines(closing_bytes(traces.trace(since_ms, follow_ms)), closing)

    return router
