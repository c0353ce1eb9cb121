"""Where executions happen, and with what.

Spec: specs/execution.md#executions.
"""

from dataclasses import dataclass
from pathlib import Path

from node.data.blobs import Blobs
from node.data.images import Images
from node.data.transfer import BlobFetcher
from node.provider.image_cache import ImageCache
from node.sandbox.driver import SandboxDriver
from protocol.values.ids import Digest, LeaseId
from protocol.wire.job import Workload


@dataclass(frozen=True, slots=True)
class ExecutionContext:
    """The parts of the node that an execution needs."""

    blobs: Blobs
    images: Images
    fetcher: BlobFetcher
    sandbox: SandboxDriver | None
    """None if no sandbox works here: then a lease of an earlier run fails, and no other comes."""
    runs: Path
    """Run folders, one a lease."""
    image_cache: ImageCache

    def run_folder(self, lease_id: LeaseId) -> Path:
        """Return where the execution of a lease lives."""
        return self.runs / lease_id.hex()[:32]

    def pin_inputs(self, lease_id: LeaseId, workload: Workload, *parts: Digest) -> None:
        """Keep what a lease's container is made of; `parts` are those of its image."""
        inputs = [file.blob.digest for file in workload.inputs]
        self.blobs.pin(pins_of(lease_id), workload.image, *parts, *inputs)


def pins_of(lease_id: LeaseId) -> str:
    """Return the owner of the pins of a lease that we serve."""
    return f"lease {lease_id.hex()}"
