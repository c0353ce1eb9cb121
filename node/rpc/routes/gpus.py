"""The route of this machine's GPUs.

Spec: specs/rpc.md#routes.
"""

from fastapi import APIRouter

from node.rpc.gpu_views import GpusView
from node.rpc.service import GpuApi


def gpu_routes(gpus: GpuApi) -> APIRouter:
    """Return the route of this machine's GPUs."""
    router = APIRouter(tags=["node"])

    @router.get("/gpus")
    async def state() -> GpusView:
        """Return what each GPU reported last, and which job has it."""
        return gpus.gpus()

    return router
