"""Pulls images from registries for the node's owner, with the owner's credentials.

Spec: specs/registries.md#api.
"""

from collections.abc import Awaitable, Callable, Collection
from typing import Final

import trio

from node.data.images import Images
from node.data.manifest import own_platform, parse_manifest
from node.data.origins import Origins
from node.registry.client import RegistryClient
from node.registry.credentials import find_credentials
from node.registry.pull import RemoteImage, Report, look_up, pull, pull_owner
from node.registry.reference import Reference
from node.rpc.image_views import ImageView, PullView
from protocol.values.errors import NodeError
from protocol.values.ids import Digest

REPORT_S: Final = 0.1
"""The least time between two reports of progress."""


class Puller:
    """Looks images up and pulls them; it notes where they are public.

    `registries` are those of which other nodes may learn: a name can be a secret.
    """

    def __init__(self, images: Images, origins: Origins, registries: Collection[str]) -> None:
        self._images = images
        self._origins = origins
        self._registries = registries

    async def look_up(self, text: str, platform: str) -> RemoteImage:
        """Ask a registry what a reference refers to; an empty platform is that of this machine.

        Errors as of `look_up`, and InvalidRequest if reference or credentials are malformed.
        """
        client = await _client_of(Reference.parse(text))
        try:
            return await look_up(client, platform or own_platform())
        finally:
            await client.close()

    async def pull(self, found: RemoteImage, report: Report) -> Digest:
        """Fetch what is missing, and name the image by its reference; errors as of `pull`."""
        client = await _client_of(found.reference)
        owner, blobs = pull_owner(), self._images.blobs
        try:
            digest = await pull(client, blobs, found, owner, _sparing(report))
            await self._images.try_tag(str(found.reference), digest)
            if await self._is_public(client, digest):
                await self._origins.record(digest, found.reference.source)
        finally:
            blobs.unpin(owner)
            await client.close()
        return digest

    def source_of(self, image: Digest) -> str:
        """Return registry and repository where an image is public, "" if that is not known."""
        return self._origins.source_of(image)

    async def _is_public(self, client: RegistryClient, image: Digest) -> bool:
        """Return whether anybody may pull an image there, without credentials."""
        if client.reference.registry not in self._registries:
            return False
        if client.is_anonymous:
            return True
        stranger = RegistryClient(client.reference, attempts=1)
        try:
            await stranger.manifest(f"sha256:{image.hex()}")
        except NodeError:
            return False
        finally:
            await stranger.close()
        return True


class Pull:
    """One image in a registry, looked up; `run` fetches it."""

    def __init__(
        self, found: RemoteImage, puller: Puller, view_of: Callable[[Digest], Awaitable[ImageView]]
    ) -> None:
        self._found = found
        self._puller = puller
        self._view_of = view_of

    @property
    def view(self) -> PullView:
        """Return what will be fetched."""
        found = self._found
        manifest = parse_manifest(found.manifest)
        parts = {manifest.config, *(layer.ref for layer in manifest.layers)}
        size = len(found.manifest) + sum(ref.size for ref in parts)
        return PullView(str(found.reference), found.digest.hex(), found.platform, size)

    async def run(self, report: Report) -> ImageView:
        """Fetch and name the image."""
        return await self._view_of(await self._puller.pull(self._found, report))


async def _client_of(reference: Reference) -> RegistryClient:
    return RegistryClient(reference, await find_credentials(reference.registry))


def _sparing(report: Report) -> Report:
    """Return a report that passes on only some of the steps, and the last."""
    before = -REPORT_S

    async def spare(done: int, total: int) -> None:
        nonlocal before
        now = trio.current_time()
        if done == total or now >= before + REPORT_S:
            before = now
            await report(done, total)

    return spare
