"""Routes by which the owner decides about the machine.

Spec: specs/rpc.md#routes.
"""

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from node.rpc.owner_views import OwnerView, RefusalView, SettingView
from node.rpc.service import OwnerApi
from protocol.values.limits import NOTICE_MS_MAX


class ReclaimRequest(BaseModel):
    """How the owner takes the machine back."""

    model_config = ConfigDict(extra="forbid", strict=True)

    within_ms: Annotated[int | None, Field(ge=0, le=NOTICE_MS_MAX)] = None
    """How long jobs with a checkpoint may still run; the setting provider.notice_s if None."""


def owner_routes(owner: OwnerApi) -> APIRouter:
    """Return the routes of the owner."""
    router = APIRouter(prefix="/owner", tags=["owner"])

    @router.get("")
    async def state() -> OwnerView:
        """Return what the owner said last, and how many jobs of others are left."""
        return owner.state()

    @router.get("/refusals")
    async def refusals() -> tuple[RefusalView, ...]:
        """Return why this node did not serve calls lately, the newest first."""
        return owner.refusals()

    @router.post("/pause")
    async def pause() -> OwnerView:
        """Take no new jobs; those that run go on."""
        return await owner.pause()

    @router.post("/drain")
    async def drain() -> OwnerView:
        """Take no new jobs; the caller waits until `jobs` is 0."""
        return await owner.drain()

    @router.post("/reclaim")
    async def reclaim(request: ReclaimRequest) -> OwnerView:
        """Take no new jobs, and end those that run."""
        return await owner.reclaim(request.within_ms)

    @router.post("/resume")
    async def resume() -> OwnerView:
        """Take jobs again."""
        return await owner.resume()

    @router.post("/reload")
    async def reload() -> tuple[SettingView, ...]:
        """Read the configuration again, and apply what needs no restart."""
        return await owner.reload()

    return router
