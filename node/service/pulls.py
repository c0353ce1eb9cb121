"""Pulls images from registries for the node's owner, with the owner's credentials.

Spec: specs/registries.md#api.
"""

from collections.abc import Awaitable, Callable
from typing import Final

import trio

from node.data.images import Images
from node.data.manifest import own_platform, parse_manifest
from node.registry.client import RegistryClient
from node.registry.credentials import find_credentials
from node.registry.pull import RemoteImage, Report, look_up, pull, pull_owner
from node.registry.reference import Reference
from node.rpc.image_views import ImageView, PullView
from protocol.values.ids import Digest

REPORT_S: Final = 0.1
"""The least time between two reports of progress."""


class Pull:
    """One image in a registry, looked up; `run` fetches it."""

    def __init__(
        self, found: RemoteImage, images: Images, view_of: Callable[[Digest], Awaitable[ImageView]]
    ) -> None:
        self._found = found
        self._images = images
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
        """Fetch what is missing, and name the image by its reference; errors as of `pull`."""
        client = await _client_of(self._found.reference)
        owner, blobs = pull_owner(), self._images.blobs
        try:
            digest = await pull(client, blobs, self._found, owner, _sparing(report))
            await self._images.try_tag(str(self._found.reference), digest)
        finally:
            blobs.unpin(owner)
            await client.close()
        return await self._view_of(digest)


async def look_up_image(
    text: str, platform: str, images: Images, view_of: Callable[[Digest], Awaitable[ImageView]]
) -> Pull:
    """Ask a registry what a reference refers to; an empty platform is that of this machine.

    Errors as of `look_up`, and InvalidRequest if reference or stored credentials are malformed.
    """
    client = await _client_of(Reference.parse(text))
    try:
        return Pull(await look_up(client, platform or own_platform()), images, view_of)
    finally:
        await client.close()


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
