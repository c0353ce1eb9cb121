"""The images of the service in memory. Spec: specs/rpc.md#service."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import trio

from node.data.linked_files import Identity
from node.registry.errors import ReferenceNotFound
from node.rpc.image_views import ImageView, PullView
from node.rpc.requests import JobImage
from node.rpc.views import BlobView
from protocol.values.errors import BlobUnavailable, InvalidRequest, NotFound

BASE = hashlib.sha256(b"base").hexdigest()


class RecordedPull:
    """A pull of two steps; one of "broken" fails after the first."""

    def __init__(self, view: PullView) -> None:
        self.view = view

    async def run(self, report) -> ImageView:
        await report(50, 99)
        if self.view.reference.endswith("broken"):
            raise BlobUnavailable("docker.io: it cannot be reached")
        await report(99, 99)
        return ImageView(BASE, (self.view.reference,), 99, None)


class RecordedImages:
    """One image, "base", a registry that has all with a colon or a slash, and blobs."""

    async def put_blob(self, chunks: AsyncIterator[bytes]) -> BlobView:
        data = b"".join([chunk async for chunk in chunks])
        digest = hashlib.sha256(data).hexdigest()
        self.blobs[digest] = data
        return BlobView(digest, len(data))

    async def link_file(self, path: Path, identity: Identity) -> BlobView:
        data = await trio.Path(path).read_bytes()
        assert len(data) == identity.size
        digest = hashlib.sha256(data).hexdigest()
        self.blobs[digest] = data
        return BlobView(digest, len(data))

    async def import_path(self, path: Path) -> ImageView:
        if not await trio.Path(path).exists():
            raise InvalidRequest(f"{path}: there is no such file")
        return ImageView(BASE, (path.stem,), 1024, None)

    async def build_base(self) -> ImageView:
        return ImageView(BASE, ("base",), 30_000_000, 1_800_000_000_000)

    async def build(self, folder, dockerfile, name, tell) -> ImageView:
        await tell(f"Step 1/1 : FROM {dockerfile}")
        if name == "broken":
            raise InvalidRequest("the build failed: no such base")
        return ImageView(BASE, (name,), 99, None)

    async def look_up(self, reference: str, platform: str) -> "RecordedPull":
        if reference != "broken" and not set(reference) & {":", "/"}:
            raise ReferenceNotFound(f"docker.io has no library/{reference}:latest: check the tag")
        return RecordedPull(PullView(f"docker.io/{reference}", BASE, platform or "linux/amd64", 99))

    async def known(self) -> tuple[ImageView, ...]:
        return (await self.build_base(),)

    async def ready(self, reference: str, pull: str) -> JobImage:
        self.pulls.append(pull)
        if pull == "never":
            await self.resolve(reference)
        return await self.looked_up(reference)

    async def looked_up(self, reference: str) -> JobImage:
        if reference in {"base", BASE, f"sha256:{BASE}"}:
            return JobImage(BASE, "base" if reference == "base" else "")
        view = (await self.look_up(reference, "")).view
        return JobImage(view.digest, view.reference)

    async def resolve(self, reference: str) -> str:
        if reference not in {"base", BASE, f"sha256:{BASE}"}:
            raise NotFound(f"no image {reference!r} here; see `mutirao image list`")
        return BASE
