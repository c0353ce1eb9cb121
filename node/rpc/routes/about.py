"""Paths about the node itself: its state, its peers, the offers that it knows, its end.

Spec: specs/rpc.md#routes.
"""

from http import HTTPStatus

from fastapi import APIRouter

from node.rpc.service import NodeApi
from node.rpc.views import OfferView, PeerView, StatusView


def about_routes(node: NodeApi) -> APIRouter:
    """Return the routes about the node."""
    router = APIRouter(tags=["node"])

    @router.get("/status")
    async def status() -> StatusView:
        """Return what the node is and does."""
        return node.status()

    @router.get("/peers")
    async def peers() -> tuple[PeerView, ...]:
        """Return the peers that are connected now."""
        return node.peers()

    @router.get("/offers")
    async def offers() -> tuple[OfferView, ...]:
        """Return the capability records that this node knows."""
        return node.offers()

    @router.post("/stop", status_code=HTTPStatus.ACCEPTED)
    async def stop() -> None:
        """Ask the node to stop; containers that run are left to their deadlines."""
        node.request_stop()

    return router
