"""How fast this node prepares jobs: what its promises of a start are made of.

Spec: specs/execution.md#preparation-rates. Each measurement counts for a share, so that one slow
requester does not decide. Nothing is saved: after a restart a node promises nothing until it has
prepared a job.
"""

from collections.abc import Callable
from typing import Final

from protocol.rules.start_promise import Preparation, layers_told
from protocol.values.bounded import keep_newest
from protocol.values.ids import Digest
from protocol.wire.job import PREFIX_BYTES, BlobRef

NEW_PERCENT: Final = 30
"""The share of the newest measurement."""
MEASURED_BYTES_MIN: Final = 256 * 1024
"""Less is over too fast to say anything."""
IMAGES_MAX: Final = 64


class PreparationMeter:
    """Rates, images and layers of one node.

    `unpacked` returns the cached images, last used first, and `stored` the blobs of images.
    """

    def __init__(
        self, unpacked: Callable[[], list[Digest]], stored: Callable[[], tuple[BlobRef, ...]]
    ) -> None:
        self._unpacked = unpacked
        self._stored = stored
        self._fetch_rate = 0
        self._unpack_rate = 0
        self._in_engine: dict[Digest, None] = {}
        """Images that an engine has taken, the last used last. It may have removed them since."""

    def has(self, image: Digest) -> bool:
        """Return whether the sandbox has an image, as far as is known."""
        return image in self._in_engine or image in self._unpacked()

    def note_fetched(self, size: int, seconds: float) -> None:
        """Record how long a fetch of so many bytes took."""
        self._fetch_rate = _averaged(self._fetch_rate, size, seconds)

    def note_unpacked(self, size: int, seconds: float) -> None:
        """Record how long the sandbox took with a new image of so many packed bytes."""
        self._unpack_rate = _averaged(self._unpack_rate, size, seconds)

    def note_image(self, image: Digest) -> None:
        """Record that the sandbox has an image now."""
        self._in_engine.pop(image, None)
        if image not in self._unpacked():
            self._in_engine[image] = None
            keep_newest(self._in_engine, IMAGES_MAX)

    @property
    def preparation(self) -> Preparation:
        """What is known now."""
        images = [*reversed(self._in_engine), *self._unpacked()][:IMAGES_MAX]
        prefixes = tuple(image[:PREFIX_BYTES] for image in images)
        layers = tuple(layer.prefix for layer in layers_told(self._stored(), IMAGES_MAX))
        return Preparation(self._fetch_rate, self._unpack_rate, prefixes, layers)


def _averaged(rate: int, size: int, seconds: float) -> int:
    """Return a rate after one more measurement, in bytes a second."""
    if size < MEASURED_BYTES_MIN:
        return rate
    measured = max(1, round(size / max(seconds, 0.001)))
    return (rate * (100 - NEW_PERCENT) + measured * NEW_PERCENT) // 100 if rate else measured
