"""Images and uploaded blobs for the node's owner, and what a job needs of them.

Spec: specs/rpc.md#service.
"""

import shutil
import tempfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import trio

from node.data.blobs import Blobs
from node.data.disk import full_disk_as_storage_full
from node.data.images import Images
from node.rpc.views import BlobView, ImageView
from protocol.values.errors import BlobUnavailable, NotFound, StorageFull
from protocol.values.ids import Digest, JobId
from protocol.wire.job import JobSpec, Workload

DISK_BYTES_MIN: Final = 64 * 1024 * 1024
"""With less free disk than this, no new job is accepted."""


class ImageService:
    """Implements node.rpc.service.ImageApi. `folder` is the data folder."""

    def __init__(self, blobs: Blobs, images: Images, folder: Path) -> None:
        self._blobs = blobs
        self._images = images
        self._folder = folder

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

    async def import_path(self, path: Path) -> ImageView:
        return await self._view(await self._images.import_path(path))

    async def build_base(self) -> ImageView:
        with full_disk_as_storage_full(self._folder / "blobs"):
            return await self._view(await self._images.build_base())

    async def known(self) -> tuple[ImageView, ...]:
        return tuple(
            ImageView(image.digest.hex(), image.names, image.size)
            for image in await self._images.known()
        )

    async def resolve(self, reference: str) -> str:
        return self._images.resolve(reference).hex()

    # --- pins of jobs ---------------------------------------------------------------------

    async def hold(self, job_id: JobId, spec: JobSpec) -> JobSpec:
        """Pin a job's image and inputs until `release`; return its spec with the image's size.

        NotFound if any of them is missing, StorageFull if the disk has no room for a new job.
        """
        if shutil.disk_usage(self._folder).free < DISK_BYTES_MIN:
            raise StorageFull("the disk is full: free some space, then submit the job again")
        workload = spec.workload
        try:
            missing = await self._images.missing(workload.image)
            parts = await self._images.parts(workload.image)
        except BlobUnavailable:
            raise _no_image(workload.image) from None
        if missing:
            raise _no_image(workload.image)
        self._require_inputs(workload)
        inputs = [file.blob.digest for file in workload.inputs]
        self._blobs.pin(pins_of_job(job_id), *(part.digest for part in parts), *inputs)
        size = sum(part.size for part in parts)
        return replace(spec, workload=replace(workload, image_bytes=size))

    def release(self, job_id: JobId) -> None:
        """Unpin a job's image and inputs, if there are any."""
        self._blobs.unpin(pins_of_job(job_id))

    def _require_inputs(self, workload: Workload) -> None:
        for file in workload.inputs:
            held = self._blobs.ref(file.blob.digest)
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


def _no_image(image: Digest) -> NotFound:
    return NotFound(
        f"image sha256:{image.hex()[:12]} is not here: "
        "`mutirao image import PATH` or `mutirao image build-base` adds one"
    )
