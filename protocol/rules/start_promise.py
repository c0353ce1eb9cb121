"""When a provider promises that a job runs, and how much that counts for its requester.

Spec: specs/auction.md#start-promise. A promise is what the provider has to fetch and to unpack,
over the rates at which it did so lately.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from heapq import nlargest
from typing import Final

from protocol.values.limits import START_MS_MAX, WEIGHT_MAX
from protocol.wire.job import LAYERS_MAX, PREFIX_BYTES, BlobRef, LayerRef
from protocol.wire.messages import Bid, Call

MIB: Final = 2**20
LAUNCH_MS: Final = 1_000
"""From the end of the preparation to the running container, messages included."""
UNPROMISED_MS: Final = 600_000
"""What a bid without a promise counts as."""
MINUTE_PERCENT: Final = 100 * 60_000
LATE_RATIO: Final = 2
LATE_MS: Final = 2_000
"""A start is late if it takes more than LATE_RATIO times as long as promised, and LATE_MS."""


@dataclass(frozen=True, slots=True)
class Preparation:
    """What a provider has already, and how fast it lately prepared jobs."""

    fetch_rate: int = 0
    """Bytes fetched a second; 0 if not measured yet."""
    unpack_rate: int = 0
    """Packed bytes of images unpacked a second; 0 if not measured yet."""
    images: tuple[bytes, ...] = ()
    """The first PREFIX_BYTES of the digests of unpacked images, the last used first."""
    layers: tuple[bytes, ...] = ()
    """The same of large layers that are stored, the largest first."""


UNMEASURED: Final = Preparation()


def layers_told(blobs: Iterable[BlobRef], count: int = LAYERS_MAX) -> tuple[LayerRef, ...]:
    """Return the largest blobs of images as layers, those below 1 MiB left out."""
    large = nlargest(count, (ref for ref in blobs if ref.size >= MIB), key=lambda ref: ref.size)
    return tuple(LayerRef(ref.digest[:PREFIX_BYTES], ref.size // MIB) for ref in large)


def promise_of(call: Call, preparation: Preparation) -> int:
    """Return in how many ms a job of the call runs if it is deployed now; 0: no promise."""
    image_bytes = max(0, call.fetch_bytes - call.input_bytes)
    if call.image[:PREFIX_BYTES] in preparation.images:
        image_bytes = 0
    held = sum(layer.mib * MIB for layer in call.layers if layer.prefix in preparation.layers)
    missing = max(0, image_bytes - held) + call.input_bytes
    steps = (missing, preparation.fetch_rate), (image_bytes, preparation.unpack_rate)
    if any(size and not rate for size, rate in steps):
        return 0
    spent_ms = sum(1_000 * size // rate for size, rate in steps if size)
    return min(LAUNCH_MS + spent_ms, START_MS_MAX)


def weight_with_start(weight: int, bid: Bid, call: Call) -> int:
    """Return the factor by which an ask is weighed, the promised start included, in millionths."""
    start_ms = bid.start_ms or UNPROMISED_MS
    return min(weight + weight * call.start_percent * start_ms // MINUTE_PERCENT, WEIGHT_MAX)


def latest_start_ms(promise_ms: int, now_ms: int) -> int:
    """Return until when a job that is deployed now must run to keep a promise; 0: no promise."""
    return now_ms + LATE_RATIO * promise_ms + LATE_MS if promise_ms else 0
