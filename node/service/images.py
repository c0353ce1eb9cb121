"""Images and uploaded blobs for the node's owner, and what a job needs of them.

Spec: specs/rpc.md#service.
"""

import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import trio

from node.data.blobs import Blobs
from node.data.disk import full_disk_as_storage_full
from node.data.images import Images
from node.data.linked_files import Identity
from node.data.origins import Origins
from node.data.tags import LOOKS_LIKE_DIGEST, check_name
from node.registry.reference import Reference
from node.rpc.image_views import ImageView
from node.rpc.requests import JobImage
from node.rpc.views import BlobView
from node.sandbox.image_build import build_image
from node.service.pulls import Pull, Puller
from protocol.rules.start_promise import layers_told
from protocol.values.errors import BlobUnavailable, InvalidRequest, NotFound, StorageFull
from protocol.values.ids import Digest, JobId
from protocol.wire.job import BlobRef, JobSpec, Workload

DISK_BYTES_MIN: Final = 64 * 1024 * 1024
"""With less free disk than this, no new job is accepted."""


class ImageService:
    """Implements node.rpc.service.ImageApi. `folder` is the data folder.

    `registries` are the public ones, of which other nodes may learn.
    """

    def __init__(
        self, blobs: Blobs, images: Images, folder: Path, registries: Collection[str] = ()
    ) -> None:
        self._blobs = blobs
        self._images = images
        self._folder = folder
        self._puller = Puller(images, Origins(folder / "blobs" / "origins.json"), registries)

    # --- the API --------------------------------------------------------------------------

    async def put_blob(self, chunks: AsyncIterator[bytes]) -> BlobView:
        # The next start removes files that a crash leaves here.
        folder = self._folder / "blobs" / "incoming"
        with (
            full_disk_as_storage_full(folder),
            tempfile.NamedTemporaryFile(dir=folder, suffix=".tmp") as file,
        ):
            async for chunk in chunks:
                await trio.to_thread.run_sync(file.write, chunk)
            file.flush()
            ref = await self._blobs.put_file(Path(file.name), "input")
        return BlobView(ref.digest.hex(), ref.size)

    async def link_file(self, path: Path, identity: Identity) -> BlobView:
        ref = await self._blobs.linked.add(path, identity)
        return BlobView(ref.digest.hex(), ref.size)

    async def import_path(self, path: Path) -> ImageView:
        return await self._view(await self._images.import_path(path))

    async def build_base(self) -> ImageView:
        with full_disk_as_storage_full(self._folder / "blobs"):
            return await self._view(await self._images.build_base())

    async def build(
        self, folder: Path, dockerfile: str, name: str, tell: Callable[[str], Awaitable[None]]
    ) -> ImageView:
        check_name(name)
        incoming = self._folder / "blobs" / "incoming"
        with (
            full_disk_as_storage_full(incoming),
            tempfile.NamedTemporaryFile(dir=incoming, suffix=".tmp") as file,
        ):
            saved, line = Path(file.name), lambda each: trio.from_thread.run(tell, each)
            await build_image(folder, dockerfile, saved, line)
            image = await self._images.import_path(saved)
        await self._images.tag(name, image)
        return await self._view(image)

    async def look_up(self, reference: str, platform: str) -> Pull:
        return Pull(await self._puller.look_up(reference, platform), self._puller, self._view)

    async def known(self) -> tuple[ImageView, ...]:
        return tuple(
            ImageView(image.digest.hex(), image.names, image.size)
            for image in await self._images.known()
        )

    async def resolve(self, reference: str) -> str:
        return self._known(reference).digest

    async def ready(self, reference: str, pull: str) -> JobImage:
        if pull != "always" and (known := self._known_or_none(reference, pull)):
            return known
        found = await self._puller.look_up(reference, "")
        return self._named(await self._puller.pull(found, _ignore), str(found.reference))

    async def looked_up(self, reference: str) -> JobImage:
        if known := self._known_or_none(reference, "missing"):
            return known
        found = await self._puller.look_up(reference, "")
        return JobImage(found.digest.hex(), str(found.reference))

    # --- names ----------------------------------------------------------------------------

    def _known(self, reference: str) -> JobImage:
        """Return an image of this node, perhaps by its complete reference; NotFound."""
        for name in (reference, _completed(reference)):
            if name and self._images.is_name(name):
                return self._named(self._images.resolve(name), name)
        return self._named(self._images.resolve(reference))

    def _named(self, image: Digest, name: str = "") -> JobImage:
        return JobImage(image.hex(), name, self._puller.source_of(image))

    def _known_or_none(self, reference: str, pull: str) -> JobImage | None:
        """Return an image of this node, None if it may be pulled instead; NotFound."""
        try:
            return self._known(reference)
        except NotFound:
            if pull == "never" or not _completed(reference):
                raise
            return None

    # --- pins of jobs ---------------------------------------------------------------------

    async def hold(self, jobs: Mapping[JobId, JobSpec]) -> dict[JobId, JobSpec]:
        """Pin image and inputs of jobs until `release`; return each spec with the image's size.

        NotFound if any of them is missing, StorageFull if the disk has no room for a new job.
        """
        if shutil.disk_usage(self._folder).free < DISK_BYTES_MIN:
            raise StorageFull("the disk is full: free some space, then submit the job again")
        parts: dict[Digest, tuple[BlobRef, ...]] = {}
        for spec in jobs.values():
            image = spec.workload.image
            if image not in parts:
                parts[image] = await self._parts(image)
        for spec in jobs.values():
            self._require_inputs(spec.workload)
        held = {}
        for job_id, spec in jobs.items():
            of_image, inputs = parts[spec.workload.image], spec.workload.inputs
            digests = (*(part.digest for part in of_image), *(file.blob.digest for file in inputs))
            self._blobs.pin(pins_of_job(job_id), *digests)
            size = sum(part.size for part in of_image)
            workload = replace(spec.workload, image_bytes=size, layers=layers_told(of_image))
            held[job_id] = replace(spec, workload=workload)
        return held

    def release(self, job_id: JobId) -> None:
        """Unpin a job's image and inputs, if there are any."""
        self._blobs.unpin(pins_of_job(job_id))

    async def _parts(self, image: Digest) -> tuple[BlobRef, ...]:
        """Return the blobs of an image that is complete; NotFound if it is not."""
        try:
            missing = await self._images.missing(image)
            parts = await self._images.parts(image)
        except BlobUnavailable:
            raise _no_image(image) from None
        if missing:
            raise _no_image(image)
        return tuple(parts)

    def _require_inputs(self, workload: Workload) -> None:
        for file in workload.inputs:
            held = self._blobs.ref(file.blob.digest) or self._blobs.linked.ref(file.blob.digest)
            if held is None or held.size != file.blob.size:
                raise NotFound(f"input {file.path!r}: upload its bytes first (POST /v1/blobs)")

    async def _view(self, digest: Digest) -> ImageView:
        for image in await self._images.known():
            if image.digest == digest:
                return ImageView(digest.hex(), image.names, image.size)
        raise _no_image(digest)


def pins_of_job(job_id: JobId) -> str:
    """Return the owner of the pins of an open job of our own."""
    return f"input {job_id.hex()}"


def _completed(reference: str) -> str:
    """Return a reference as a pull names its image; "" if it is none, or may be a digest."""
    if LOOKS_LIKE_DIGEST.fullmatch(reference):
        return ""
    try:
        return str(Reference.parse(reference))
    except InvalidRequest:
        return ""


async def _ignore(_done: int, _total: int) -> None:
    """Ignore progress."""


def _no_image(image: Digest) -> NotFound:
    return NotFound(
        f"image sha256:{image.hex()[:12]} is not here: "
        "`mutirao image import PATH` or `mutirao image build-base` adds one"
    )
