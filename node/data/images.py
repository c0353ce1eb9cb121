"""Images by the digest of their OCI manifest: imported, built, named, unpacked, exported.

An image consists of blobs: the manifest, the config, and the layers.

Spec: specs/data.md#images.
"""

import logging
import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from node.data import base_image
from node.data.archives import docker_name, write_docker_archive
from node.data.blobs import BlobRef, Blobs
from node.data.imports import import_image
from node.data.layers import Allowance
from node.data.manifest import (
    DOCUMENT_MAX,
    LAYER_TYPE,
    Descriptor,
    ImageConfig,
    Layer,
    Manifest,
    layers_of,
    manifest_of,
    parse_config,
    parse_digest,
    parse_manifest,
    require_size,
)
from node.data.tags import check_name, load_tags, save_tags
from node.data.unpack import unpack
from protocol.values.bounded import keep_newest
from protocol.values.errors import BlobUnavailable, Conflict, InvalidRequest, NotFound
from protocol.values.ids import Digest

__all__ = ["Image", "ImageConfig", "Images"]

LOG: Final = logging.getLogger(__name__)
CACHED_MAX: Final = 64
"""The most manifests and configs in memory, and the most bytes of each."""
CACHED_BYTES_MAX: Final = 64 * 1024
BASE: Final = "base"
"""The name of the image that `build_base` makes."""
PREFIX_MIN: Final = 12
"""The fewest hexadecimal digits of a digest's prefix."""


@dataclass(frozen=True, slots=True)
class Image:
    """A complete image: its names if any, and its size in bytes without unpacking."""

    digest: Digest
    names: tuple[str, ...]
    size: int
    created: str


class Images:
    """The images of this node, over its blobs; `folder` is the one of the blobs.

    Call `reconcile` once after that of the blobs.
    """

    def __init__(self, blobs: Blobs, folder: Path) -> None:
        self._blobs = blobs
        self._folder = folder
        self._tags_path = folder / "tags.json"
        self._tags = load_tags(self._tags_path)
        self._unpacking: dict[Path, trio.Lock] = {}
        self._tagging = trio.Lock()
        self._documents: dict[Digest, bytes] = {}  # The least recently used first.

    @property
    def blobs(self) -> Blobs:
        """The blobs that the images are made of."""
        return self._blobs

    async def reconcile(self) -> None:
        """Pin all blobs of the named images, so they are not evicted."""
        for name, image in self._tags.items():
            try:
                self._pin(name, await self.parts(image))
            except (BlobUnavailable, InvalidRequest) as error:
                LOG.warning("the image named %s cannot be used: %s", name, error)

    async def import_path(self, path: Path) -> Digest:
        """Import a tar of `docker save`, an OCI layout folder or a tar of one; return its digest.

        The names in the archive become the image's names. InvalidRequest if it is broken,
        StorageFull if there is no room.
        """
        imported = await import_image(self._blobs, path)
        for name in imported.names:
            if name != BASE:  # An archive does not replace the image that this node builds.
                await self.try_tag(name, imported.digest)
        return imported.digest

    async def build_base(self, progress: Callable[[str], None] | None = None) -> Digest:
        """Build the image "base" from this machine's Python, shell and tools; return its digest.

        It takes seconds; the same machine gives the same digest. `progress` gets texts.
        SandboxUnavailable if this machine cannot build one, StorageFull if there is no room.
        """
        report = progress or _ignore
        report("packing Python, its libraries and a shell")
        with tempfile.TemporaryFile(dir=self._folder) as file:
            layer = await trio.to_thread.run_sync(base_image.write_layer, file)
            file.seek(0)
            report(f"keeping {layer.size} bytes")
            ref = await self._blobs.put_stream(file, layer.size, "image")
        config = await self._blobs.put_bytes(base_image.config_of(layer), "image")
        data = manifest_of(config, [Descriptor(ref, f"{LAYER_TYPE}+gzip")])
        image = await self._blobs.put_bytes(data, "image")
        await self.tag(BASE, image.digest)
        return image.digest

    async def parts(self, image: Digest) -> tuple[BlobRef, ...]:
        """Return manifest, config and layers, the lowest layer first.

        BlobUnavailable if the manifest is not here, InvalidRequest if it is malformed or gives a
        stored part another size than it has. The sizes of other parts are claims.
        """
        data = await self._document(image)
        manifest = parse_manifest(data)
        refs = (BlobRef(image, len(data)), manifest.config, *(part.ref for part in manifest.layers))
        for ref in refs:
            require_size(self._blobs.ref(ref.digest) or ref, ref)
        return tuple(dict.fromkeys(refs))

    async def missing(self, image: Digest) -> tuple[BlobRef, ...]:
        """Return the missing parts; errors as of `parts`."""
        return tuple(ref for ref in await self.parts(image) if self._blobs.ref(ref.digest) is None)

    async def known(self) -> tuple[Image, ...]:
        """Return all complete images."""
        small = [ref for ref in self._blobs.of_kind("image") if ref.size <= DOCUMENT_MAX]
        looked = [await self._look_at(ref.digest) for ref in small]
        return tuple(image for image in looked if image is not None)

    async def config(self, image: Digest) -> ImageConfig:
        """Return the image's config; BlobUnavailable if it is not here."""
        manifest = parse_manifest(await self._document(image))
        return parse_config(await self._document(manifest.config.digest))

    async def unpack(self, image: Digest, folder: Path, allowance: Allowance | None = None) -> Path:
        """Return `<folder>/<hex>`, the image's root, which is unpacked once and shared.

        BlobUnavailable if a part is missing; InvalidRequest if the image is broken, hostile, or
        beyond the allowance; SandboxUnavailable on a kernel before 5.6; StorageFull if the disk is
        full.
        """
        target = folder / image.hex()
        lock = self._unpacking.setdefault(target, trio.Lock())
        async with lock:
            try:
                if not await trio.Path(target).exists():
                    await self._unpack(image, target, allowance or Allowance())
            finally:
                if not lock.statistics().tasks_waiting:
                    del self._unpacking[target]
        return target

    async def docker_archive(
        self, image: Digest, path: Path, allowance: Allowance | None = None
    ) -> int:
        """Write the image to a new file for `docker load`; return its unpacked size in bytes.

        Errors as of `unpack`.
        """
        with self._pinned(f"archiving {image.hex()}", await self.parts(image)):
            layers = await self._layers(image)
            name, limits = docker_name(image), allowance or Allowance()
            await trio.to_thread.run_sync(write_docker_archive, name, layers, path, limits)
        return limits.bytes_used

    async def tag(self, name: str, image: Digest) -> None:
        """Give a complete image a name, and take the name from any other image.

        InvalidRequest if the name is invalid, BlobUnavailable if the image is not here.
        """
        parts = await self.parts(image)
        async with self._tagging:
            await self._save({**self._tags, check_name(name): image})
        self._pin(name, parts)

    async def untag(self, name: str) -> None:
        """Remove a name; NotFound if no image has it."""
        async with self._tagging:
            if name not in self._tags:
                raise NotFound(f"no image is named {name!r:.120}")
            await self._save({other: image for other, image in self._tags.items() if other != name})
        self._blobs.unpin(_owner(name))

    def is_name(self, name: str) -> bool:
        """Return whether an image has the name."""
        return name in self._tags

    def resolve(self, reference: str) -> Digest:
        """Return the image of a name, of `sha256:<hex>`, or of a prefix of its hex.

        A full digest is returned even if that image is not here. NotFound if nothing has the name
        or the prefix, Conflict if several images have the prefix.
        """
        if reference in self._tags:
            return self._tags[reference]
        name = reference.removeprefix("sha256:")
        if len(name) == 64 or reference != name:
            return parse_digest(f"sha256:{name}")
        candidates = [
            ref.digest for ref in self._blobs.of_kind("image") if ref.digest.hex().startswith(name)
        ]
        candidates = [digest for digest in candidates if self._is_manifest(digest)]
        if len(name) < PREFIX_MIN or not candidates:
            known = (
                ", ".join(sorted(self._tags))
                or "none yet; build one with `mutirao image build-base`"
            )
            raise NotFound(f"no image is named {reference!r:.120}; there are: {known}")
        if len(candidates) > 1:
            raise Conflict(f"several images begin with {reference}: give more of the digest")
        return candidates[0]

    async def try_tag(self, name: str, image: Digest) -> None:
        """Tag with a name from elsewhere, unless it is invalid: the image needs no name."""
        try:
            await self.tag(name, image)
        except InvalidRequest as error:
            LOG.warning("%s", error)

    async def _save(self, tags: dict[str, Digest]) -> None:
        await trio.to_thread.run_sync(save_tags, self._tags_path, tags)
        self._tags = tags

    def _pin(self, name: str, parts: tuple[BlobRef, ...]) -> None:
        self._blobs.unpin(_owner(name))
        self._blobs.pin(_owner(name), *(ref.digest for ref in parts))

    async def _look_at(self, digest: Digest) -> Image | None:
        """Return the image that has this manifest, None if it is malformed or incomplete."""
        try:
            parts = await self.parts(digest)
            created = (await self.config(digest)).created
        except (InvalidRequest, BlobUnavailable):
            return None
        if any(self._blobs.ref(ref.digest) is None for ref in parts):
            return None
        names = tuple(sorted(name for name, image in self._tags.items() if image == digest))
        return Image(digest, names, sum(ref.size for ref in parts), created)

    async def _unpack(self, image: Digest, target: Path, allowance: Allowance) -> None:
        with self._pinned(f"unpacking {image.hex()}", await self.parts(image)):
            layers = await self._layers(image)
            await trio.to_thread.run_sync(unpack, layers, target, allowance)

    async def _layers(self, image: Digest) -> list[tuple[Layer, Path]]:
        manifest: Manifest = parse_manifest(await self._document(image))
        config = parse_config(await self._document(manifest.config.digest))
        return [(layer, self._path(layer.ref)) for layer in layers_of(manifest, config)]

    async def _document(self, digest: Digest) -> bytes:
        """Return a manifest or config; the last small ones stay in memory as long as their blobs.

        Every job needs those of its image several times.
        """
        known = self._documents.pop(digest, None)
        data = known if known is not None and self._blobs.path(digest) is not None else None
        if data is None:
            data = await self._blobs.read(digest, DOCUMENT_MAX)
        if len(data) <= CACHED_BYTES_MAX:
            self._documents[digest] = data
            keep_newest(self._documents, CACHED_MAX)
        return data

    def _path(self, ref: BlobRef) -> Path:
        path = self._blobs.path(ref.digest)
        if path is None:
            raise BlobUnavailable(f"the image is incomplete: sha256:{ref.digest.hex()} is not here")
        return path

    def _is_manifest(self, digest: Digest) -> bool:
        path = self._blobs.path(digest)
        ref = self._blobs.ref(digest)
        if path is None or ref is None or ref.size > DOCUMENT_MAX:
            return False
        try:
            parse_manifest(path.read_bytes())
        except InvalidRequest:
            return False
        return True

    @contextmanager
    def _pinned(self, purpose: str, refs: tuple[BlobRef, ...]) -> Iterator[None]:
        owner = f"{purpose} {secrets.token_hex(8)}"
        self._blobs.pin(owner, *(ref.digest for ref in refs))
        try:
            yield
        finally:
            self._blobs.unpin(owner)


def _owner(name: str) -> str:
    return f"name {name}"


def _ignore(_: str) -> None:
    """Ignore progress."""
