"""Routes of content: blobs for jobs' inputs, and images.

Spec: specs/rpc.md#routes.
"""

from collections.abc import AsyncGenerator
from dataclasses import asdict
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, Final

import trio
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from node.data.linked_files import Identity
from node.rpc.content_requests import BuildRequest, ImageRequest, LinkRequest, PullRequest
from node.rpc.image_views import ImageView
from node.rpc.live import LiveReport, Tell
from node.rpc.service import ImageApi
from node.rpc.views import BlobView
from protocol.values.errors import InvalidRequest

LINES: Final[dict[int | str, Any]] = {200: {"content": {"application/jsonl": {}}}}


def content_routes(images: ImageApi, closing: trio.Event) -> APIRouter:
    """Return the routes about blobs and images; streams end when `closing` is set."""
    router = APIRouter(tags=["content"])

    @router.post("/blobs", status_code=HTTPStatus.CREATED)
    async def put_blob(request: Request) -> BlobView:
        """Store the bytes of the body, and return their digest and size."""
        return await images.put_blob(_chunks(request))

    @router.post("/blobs/link", status_code=HTTPStatus.CREATED)
    async def link_file(request: LinkRequest) -> BlobView:
        """Hash a file of this machine and use it where it lies, as long as it does not change."""
        identity = Identity(**request.model_dump(exclude={"path"}))
        return await images.link_file(_absolute(request.path), identity)

    @router.get("/images")
    async def list_images() -> tuple[ImageView, ...]:
        """Return the images that this node stores."""
        return await images.known()

    @router.post("/images", status_code=HTTPStatus.CREATED)
    async def import_image(request: ImageRequest) -> ImageView:
        """Import an image from a path of this machine: an archive or an OCI layout."""
        return await images.import_path(_absolute(request.path))

    @router.post("/images/base", status_code=HTTPStatus.CREATED)
    async def build_base(_: Request) -> ImageView:
        """Build a small image from this machine's files."""
        return await images.build_base()

    @router.get("/images/resolve")
    async def resolve(reference: Annotated[str, Query(min_length=1)]) -> str:
        """Return the digest to which an image reference resolves now."""
        return await images.resolve(reference)

    _add_long_work(router, images, closing)
    return router


def _add_long_work(router: APIRouter, images: ImageApi, closing: trio.Event) -> None:
    @router.post("/images/pull", response_class=Response, responses=LINES)
    async def pull(request: PullRequest) -> Response:
        """Pull an image from a registry: lines of JSON, `found`, `progress`, `image` or `error`."""
        found = await images.look_up(request.reference, request.platform)

        async def work(tell: Tell) -> ImageView:
            await tell("found", asdict(found.view))
            return await found.run(
                lambda done, total: tell("progress", {"done": done, "total": total})
            )

        return LiveReport(work, closing)

    @router.post("/images/build", response_class=Response, responses=LINES)
    async def build(request: BuildRequest) -> Response:
        """Build an image with this machine's engine: lines of JSON, `log`, `image` or `error`."""
        folder = _absolute(request.path)

        async def work(tell: Tell) -> ImageView:
            return await images.build(
                folder, request.dockerfile, request.name, lambda line: tell("log", line)
            )

        return LiveReport(work, closing)


def _absolute(text: str) -> Path:
    path = Path(text)
    if not path.is_absolute() or "\0" in text:
        raise InvalidRequest("path: give an absolute path")
    return path


async def _chunks(request: Request) -> AsyncGenerator[bytes, None]:
    async for chunk in request.stream():
        if chunk:
            yield chunk
