"""The image of simulated jobs as a real one: an OCI image with one layer of zeros.

Spec: specs/simulation.md#stack.
"""

from typing import Final

from node.data.blobs import Blobs
from node.data.manifest import LAYER_TYPE, Descriptor, manifest_of
from protocol.values.ids import Digest

CONFIG: Final = b'{"config":{},"rootfs":{"diff_ids":[]}}'
REST: Final = 512
"""About what an image has besides its layer, in bytes."""


async def store_image(blobs: Blobs, size: int) -> Digest:
    """Store an image of about so many bytes, and return its digest; StorageFull without room."""
    config = await blobs.put_bytes(CONFIG, "image")
    layer = await blobs.put_bytes(bytes(max(1, size - REST)), "image")
    manifest = manifest_of(config, [Descriptor(layer, LAYER_TYPE)])
    return (await blobs.put_bytes(manifest, "image")).digest
