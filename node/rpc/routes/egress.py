"""The route of what jobs of others reached.

Spec: specs/rpc.md#routes.
"""

from typing import Annotated, Final

from fastapi import APIRouter, Query

from node.rpc.egress_views import ReachedView
from node.rpc.service import EgressApi

REACHED_MAX: Final = 10_000


def egress_routes(egress: EgressApi) -> APIRouter:
    """Return the route of what jobs of others reached."""
    router = APIRouter(tags=["node"])

    @router.get("/egress")
    async def reached(
        lease: Annotated[str, Query(pattern="^[0-9a-f]{0,64}$")] = "",
        limit: Annotated[int, Query(ge=1, le=REACHED_MAX)] = 50,
    ) -> tuple[ReachedView, ...]:
        """Return what jobs of others reached, and what was refused, the latest first."""
        return await egress.reached(lease, limit)

    return router
