"""What all executions share: blobs, images, sandbox and folders.

Spec: specs/execution.md#executions.
"""

from dataclasses import dataclass
from pathlib import Path

from node.data.blobs import Blobs
from node.data.images import Images
from node.data.transfer import BlobFetcher
from node.egress.egress import Egress
from node.provider.image_cache import ImageCache
from node.provider.preparation import PreparationMeter
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
    """None if no sandbox works here: leases of an earlier run fail, and no new ones come."""
    runs: Path
    """The parent of the run folders, one per lease."""
    image_cache: ImageCache
    meter: PreparationMeter
    egress: Egress
    cpu_weight: int = 100
    """What a job gets of a processor beside a program of the owner, in percent."""
    registries: frozenset[str] = frozenset()
    """The registries from which this node pulls public images itself."""

    def run_folder(self, lease_id: LeaseId) -> Path:
        """Return the run folder of a lease."""
        return self.runs / lease_id.hex()[:32]

    def pin_inputs(self, lease_id: LeaseId, workload: Workload, *parts: Digest) -> None:
        """Pin the image and inputs of a lease; `parts` are the image's."""
        inputs = [file.blob.digest for file in workload.inputs]
        self.blobs.pin(pins_of(lease_id), workload.image, *parts, *inputs)

    def pin_unpacked(self, lease_id: LeaseId, workload: Workload) -> None:
        """Protect the unpacked image and input folders of a lease from eviction."""
        packs = (file.blob.digest for file in workload.inputs if file.pack)
        self.image_cache.pin(lease_id, workload.image, *packs)


def pins_of(lease_id: LeaseId) -> str:
    """Return the owner of the pins of a lease that we serve."""
    return f"lease {lease_id.hex()}"
