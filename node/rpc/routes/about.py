"""Routes of the node itself: state, peers, known capability records, stop.

Spec: specs/rpc.md#routes.
"""

from http import HTTPStatus
from typing import Annotated, Final

from fastapi import APIRouter, Query

from node.rpc.service import NodeApi
from node.rpc.views import (
    AnsweredCallView,
    OfferView,
    PaidPriceView,
    PeerView,
    StatusView,
)

BIDS_MAX: Final = 10_000


def about_routes(node: NodeApi) -> APIRouter:
    """Return the routes about the node."""
    router = APIRouter(tags=["node"])

    @router.get("/status")
    async def status() -> StatusView:
        """Return the node's identity and state."""
        return node.status()

    @router.get("/peers")
    async def peers() -> tuple[PeerView, ...]:
        """Return the connected peers."""
        return node.peers()

    @router.get("/offers")
    async def offers(
        where: str = "", sort: str = "", limit: Annotated[int | None, Query(ge=1)] = None
    ) -> tuple[OfferView, ...]:
        """Return the capability records that this node knows; `where`: specs/query.md."""
        return node.offers(where, sort, limit)

    @router.get("/bids")
    async def bids(
        limit: Annotated[int, Query(ge=1, le=BIDS_MAX)] = 50,
    ) -> tuple[AnsweredCallView, ...]:
        """Return the calls that this node answered as a provider, newest first."""
        return await node.bids(limit)

    @router.get("/prices")
    async def prices() -> tuple[PaidPriceView, ...]:
        """Return what was paid lately for each class of slots, from receipts and outcomes."""
        return await node.prices()

    @router.post("/stop", status_code=HTTPStatus.ACCEPTED)
    async def stop() -> None:
        """Ask the node to stop; running containers continue until their deadlines."""
        node.request_stop()

    return router
