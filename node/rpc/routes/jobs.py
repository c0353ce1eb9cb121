"""Routes of jobs: submit, list, show, follow, cancel, and fetch outputs.

Spec: specs/rpc.md#routes.
"""

from http import HTTPStatus
from typing import Annotated, Any, Final

import trio
from fastapi import APIRouter, Header, Query
from pydantic import Discriminator, Tag
from starlette.responses import Response

from node.rpc.archive import bytes_of, tar_of
from node.rpc.job_views import ArrayView, JobView, MemberView, OutputView
from node.rpc.live import LiveBytes, LiveEvents, closing_bytes
from node.rpc.requests import JobRequest, array_specs_of, job_spec_of
from node.rpc.service import ImageApi, JobApi
from protocol.values.errors import Conflict

KEY_LENGTH_MAX: Final = 64
JOBS_MAX: Final = 500
NUMBER_MAX: Final = 2**53
EVENTS: Final[dict[int | str, Any]] = {200: {"content": {"text/event-stream": {}}}}
BYTES: Final[dict[int | str, Any]] = {200: {"content": {"application/octet-stream": {}}}}
"""The OpenAPI description of answers that are not JSON."""

JobsRequest = Annotated[
    Annotated[JobRequest, Tag("job")] | Annotated[list[JobRequest], Tag("jobs")],
    Discriminator(lambda given: "jobs" if isinstance(given, list) else "job"),
]
IdempotencyKey = Annotated[str, Header(max_length=KEY_LENGTH_MAX)]
LastEventId = Annotated[int, Header(ge=0, le=NUMBER_MAX)]


def job_routes(jobs: JobApi, images: ImageApi, closing: trio.Event) -> APIRouter:
    """Return the routes about jobs; streams end when `closing` is set."""
    router = APIRouter(prefix="/jobs", tags=["jobs"])
    _add_plain(router, jobs, images)
    _add_arrays(router, jobs)
    _add_streams(router, jobs, closing)
    _add_outputs(router, jobs, closing)
    return router


def _add_plain(router: APIRouter, jobs: JobApi, images: ImageApi) -> None:
    @router.post("", status_code=HTTPStatus.CREATED)
    async def submit(
        request: JobsRequest, idempotency_key: IdempotencyKey = ""
    ) -> JobView | ArrayView:
        """Submit a job, an array, or a gang. A repeated Idempotency-Key returns the same."""
        if isinstance(request, JobRequest) and not request.is_many:
            image = await images.ready(request.image, request.pull)
            return await jobs.submit(job_spec_of(request, image, idempotency_key))
        many = [request] if isinstance(request, JobRequest) else request
        wanted = {each.image: each.pull for each in many}
        found = {name: await images.ready(name, pull) for name, pull in wanted.items()}
        return await jobs.submit_array(*array_specs_of(many, found, idempotency_key))

    @router.get("")
    async def list_jobs(
        limit: Annotated[int, Query(ge=1, le=JOBS_MAX)] = 50, before: str | None = None
    ) -> tuple[JobView | ArrayView, ...]:
        """Return jobs, newest first; `before` is the last id of the previous page."""
        return await jobs.page(limit, before)

    @router.get("/{reference}")
    async def job(reference: str) -> JobView | ArrayView:
        """Return one job or array."""
        return await jobs.get(reference)

    @router.post("/{reference}/cancel")
    async def cancel(reference: str) -> JobView | ArrayView:
        """Cancel a job; one that has ended is not changed."""
        return await jobs.cancel(reference)


def _add_arrays(router: APIRouter, jobs: JobApi) -> None:
    @router.post("/{reference}/retry")
    async def retry(reference: str) -> JobView | ArrayView:
        """Run a job, or the members of an array, again that did not exit with 0."""
        return await jobs.retry(reference)

    @router.get("/{reference}/members")
    async def members(
        reference: str,
        limit: Annotated[int, Query(ge=1, le=JOBS_MAX)] = JOBS_MAX,
        after: Annotated[int, Query(ge=-1, le=NUMBER_MAX)] = -1,
    ) -> tuple[MemberView, ...]:
        """Return members of an array by index; `after` is the last index of the previous page."""
        return await jobs.members(reference, limit, after)


def _add_streams(router: APIRouter, jobs: JobApi, closing: trio.Event) -> None:
    @router.get("/{reference}/events", response_class=Response, responses=EVENTS)
    async def events(
        reference: str,
        after: Annotated[int, Query(ge=0, le=NUMBER_MAX)] = 0,
        last_event_id: LastEventId = 0,
    ) -> Response:
        """Stream the job's events as SSE, past ones first, until the job has ended."""
        found = await jobs.get(reference)  # An unknown job must be a 404, not a broken stream.
        return LiveEvents(jobs.events(found.id, max(after, last_event_id)), closing)

    @router.get("/{reference}/logs", response_class=Response, responses=BYTES)
    async def logs(
        reference: str,
        offset: Annotated[int, Query(ge=0, le=NUMBER_MAX)] = 0,
        follow: bool = False,  # noqa: FBT001, FBT002 - FastAPI passes it by name.
    ) -> Response:
        """Return the log's bytes from `offset` on; with `follow`, until the job has ended."""
        found = await jobs.get(reference)
        if (
            isinstance(found, ArrayView) and not found.gang
        ):  # Known before the stream begins: it cannot say so.
            raise Conflict(f"{reference} is an array: name one of its jobs, {reference}[INDEX]")
        return LiveBytes(closing_bytes(jobs.logs(found.id, offset, follow)), closing)


def _add_outputs(router: APIRouter, jobs: JobApi, closing: trio.Event) -> None:
    @router.get("/{reference}/outputs")
    async def outputs(reference: str) -> tuple[OutputView, ...]:
        """Return the job's output files."""
        return await jobs.outputs(reference)

    @router.get("/{reference}/outputs/{path:path}", response_class=Response, responses=BYTES)
    async def output(reference: str, path: str) -> Response:
        """Return the bytes of one output file; its digest is the ETag."""
        output = await jobs.output(reference, path)
        return LiveBytes(bytes_of(output), closing, etag=f'"{output.view.digest}"')

    @router.get("/{reference}/archive", response_class=Response, responses=BYTES)
    async def archive(reference: str) -> Response:
        """Return all output files as one tar, in the order of `outputs`."""
        # All are found before the first is sent: after that, no error can be reported.
        return LiveBytes(tar_of(await jobs.stored_outputs(reference)), closing)
