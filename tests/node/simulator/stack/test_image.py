"""The image of a stack's jobs is one that a node accepts, of the size that is asked for.

Spec: specs/simulation.md#stack.
"""

import pytest

from node.data.images import Images
from node.simulator.stack.image import store_image


@pytest.mark.parametrize("size", [0, 4_096, 1024**2])
async def test_it_is_complete_and_about_as_large_as_asked_for(ada, size):
    blobs = ada.blobs
    image = await store_image(blobs, size)
    images = Images(blobs, ada.folder / "blobs")
    assert not await images.missing(image)
    await images.config(image)
    parts = await images.parts(image)
    assert size - 256 <= sum(part.size for part in parts) <= max(size, 512)
