"""Routes that explain jobs: before they are submitted, and after.

Spec: specs/rpc.md#routes.
"""

from fastapi import APIRouter

from node.rpc.explain_views import ExplanationView
from node.rpc.requests import JobRequest, array_of_text, job_spec_of
from node.rpc.service import AdviceApi, ImageApi


def advice_routes(advice: AdviceApi, images: ImageApi) -> APIRouter:
    """Return the routes that explain jobs."""
    router = APIRouter(prefix="/jobs", tags=["jobs"])

    @router.post("/dry-run")
    async def dry_run(request: JobRequest) -> ExplanationView:
        """Return which known nodes could serve a job, without submitting it."""
        if request.array is not None:
            array_of_text(request.array)
        image = await images.looked_up(request.image)
        return advice.dry_run(job_spec_of(request, image, ""))

    @router.get("/{reference}/explanation")
    async def explanation(reference: str) -> ExplanationView:
        """Return why a job waits or failed, and what would help."""
        return await advice.explain(reference)

    return router
