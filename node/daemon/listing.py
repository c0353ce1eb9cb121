"""The listing of what an execution left: a blob that names other blobs.

Spec: specs/execution.md#outputs.
"""

from typing import Final

from node.data.blobs import Blobs
from protocol.values.errors import BlobUnavailable
from protocol.values.ids import Digest
from protocol.wire.codec import decode
from protocol.wire.job import Outputs

LISTING_BYTES_MAX: Final = 16 * 1024 * 1024


async def read_listing(blobs: Blobs, digest: Digest) -> Outputs:
    """Return a listing; BlobUnavailable if it is not here or is none."""
    data = await blobs.read(digest, LISTING_BYTES_MAX)
    try:
        return decode(Outputs, data)
    except ValueError as error:
        raise BlobUnavailable(f"the list of outputs is broken: {error}") from None


async def pin_listing(blobs: Blobs, owner: str, digest: Digest) -> None:
    """Keep a listing and everything that it names, as far as it is here, for an owner."""
    blobs.pin(owner, digest)
    if blobs.ref(digest) is not None:
        outputs = await read_listing(blobs, digest)
        blobs.pin(owner, outputs.log.digest, *(file.blob.digest for file in outputs.files))
