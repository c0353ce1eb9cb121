"""The interface between API and daemon: eight objects with these methods.

Every method may raise a `NodeError`; the API answers with its code and its one line of text.
`reference` is a job id in hex, or a prefix of at least 6 digits that fits one job.
Spec: specs/rpc.md#service.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from node.data.linked_files import Identity
from node.rpc.egress_views import ReachedView
from node.rpc.explain_views import ExplanationView
from node.rpc.gpu_views import GpusView
from node.rpc.image_views import ImageView, PullView
from node.rpc.job_views import ArrayView, JobEventView, JobView, MemberView, OutputView
from node.rpc.owner_views import OwnerView, RefusalView, SettingView
from node.rpc.requests import JobImage
from node.rpc.views import (
    AnsweredCallView,
    BlobView,
    OfferView,
    PaidPriceView,
    PeerView,
    StatusView,
)
from protocol.wire.job import JobSpec


@dataclass(frozen=True, slots=True)
class StoredOutput:
    """An output file of a job, and where on the disk its bytes begin."""

    view: OutputView
    place: Path
    offset: int = 0


class JobApi(Protocol):
    """The jobs of the node's owner."""

    async def submit(self, spec: JobSpec) -> JobView:
        """Submit a job that `job_spec_of` has checked; a repeated non-empty key means the same job.

        Raises Conflict (same key, other job), StorageFull, or NotFound (image or inputs).
        """
        ...

    async def submit_array(self, specs: Sequence[JobSpec], indices: Sequence[int]) -> ArrayView:
        """Submit jobs as one array, all or none; their key is that of the array."""
        ...

    async def retry(self, reference: str) -> JobView | ArrayView:
        """Run again what ended in another way than with exit code 0; NotFound, StorageFull."""
        ...

    async def members(self, reference: str, limit: int, after: int) -> tuple[MemberView, ...]:
        """Return at most `limit` members of an array, by index, after an index."""
        ...

    async def page(self, limit: int, before: str | None) -> tuple[JobView | ArrayView, ...]:
        """Return at most `limit` jobs, newest first, that are older than the job `before`."""
        ...

    async def get(self, reference: str) -> JobView | ArrayView: ...

    async def cancel(self, reference: str) -> JobView | ArrayView:
        """Cancel a job, or all of an array; a job that has ended is returned unchanged."""
        ...

    def events(self, reference: str, after: int) -> AsyncIterator[JobEventView]:
        """Yield the past events after number `after`, then live ones, until the job ends."""
        ...

    def logs(self, reference: str, offset: int, follow: bool) -> AsyncIterator[bytes]:  # noqa: FBT001
        """Yield the log from byte `offset`; with `follow`, until the job has ended."""
        ...

    async def outputs(self, reference: str) -> tuple[OutputView, ...]: ...

    async def output(self, reference: str, path: str) -> StoredOutput:
        """Return an output file of a job; NotFound, BlobUnavailable."""
        ...

    async def stored_outputs(self, reference: str) -> tuple[StoredOutput, ...]:
        """Return all output files of a job; BlobUnavailable if any is missing."""
        ...


class ImagePull(Protocol):
    """An image that a registry has, before it is fetched."""

    @property
    def view(self) -> PullView: ...

    async def run(self, report: Callable[[int, int], Awaitable[None]]) -> ImageView:
        """Fetch and name the image; `report` gets the bytes that are here, and all bytes."""
        ...


class ImageApi(Protocol):
    """Images, and uploaded blobs for the inputs of jobs."""

    async def put_blob(self, chunks: AsyncIterator[bytes]) -> BlobView:
        """Store the bytes as a job's input; StorageFull if there is no room."""
        ...

    async def link_file(self, path: Path, identity: Identity) -> BlobView:
        """Use a file as a job's input where it lies; InvalidRequest if it is not as expected."""
        ...

    async def import_path(self, path: Path) -> ImageView:
        """Import the image in a file or folder; InvalidRequest, StorageFull."""
        ...

    async def build_base(self) -> ImageView: ...

    async def build(
        self, folder: Path, dockerfile: str, name: str, tell: Callable[[str], Awaitable[None]]
    ) -> ImageView:
        """Build an image with this machine's Docker Engine, and name it; `tell` gets its log.

        InvalidRequest if the build fails, SandboxUnavailable without an engine, StorageFull.
        """
        ...

    async def look_up(self, reference: str, platform: str) -> ImagePull:
        """Ask a registry for the image of a reference, for this machine's platform if it is "".

        Raises the errors of specs/registries.md#errors.
        """
        ...

    async def known(self) -> tuple[ImageView, ...]: ...

    async def resolve(self, reference: str) -> str:
        """Return the digest (64 hex digits) of a name, digest or digest's prefix; NotFound."""
        ...

    async def ready(self, reference: str, pull: str) -> JobImage:
        """Return the image for a job: of this node, or pulled ("missing", "always", "never").

        NotFound, or the errors of a pull.
        """
        ...

    async def looked_up(self, reference: str) -> JobImage:
        """Return the image that `ready` would return, without fetching it."""
        ...


class AdviceApi(Protocol):
    """Why a job waits or fails, and what would help."""

    def dry_run(self, spec: JobSpec) -> ExplanationView:
        """Return how the known nodes relate to a job that is not submitted."""
        ...

    async def explain(self, reference: str) -> ExplanationView:
        """Return the same for a submitted job, and what happened to it."""
        ...


class NodeApi(Protocol):
    """The node itself."""

    def status(self) -> StatusView: ...

    def peers(self) -> tuple[PeerView, ...]: ...

    def offers(self, where: str, sort: str, limit: int | None) -> tuple[OfferView, ...]:
        """Return the known records: all, or the providers that a query selects; InvalidQuery."""
        ...

    async def bids(self, limit: int) -> tuple[AnsweredCallView, ...]:
        """Return the last calls that this node answered, newest first."""
        ...

    async def prices(self) -> tuple[PaidPriceView, ...]:
        """Return what was paid lately for each class of slots."""
        ...

    def request_stop(self) -> None:
        """Ask the daemon to stop, and return at once."""
        ...


class OwnerApi(Protocol):
    """What the owner decides about the machine. Conflict if the node lends nothing."""

    def state(self) -> OwnerView: ...

    def refusals(self) -> tuple[RefusalView, ...]:
        """Return why this node did not serve calls lately, the newest first."""
        ...

    async def pause(self) -> OwnerView: ...

    async def drain(self) -> OwnerView: ...

    async def reclaim(self, within_ms: int | None) -> OwnerView:
        """End the jobs of others, with so much notice if they can save their state."""
        ...

    async def resume(self) -> OwnerView: ...

    async def reload(self) -> tuple[SettingView, ...]:
        """Read the configuration again; return what has changed. ConfigError, Conflict."""
        ...


class GpuApi(Protocol):
    """The GPUs of this machine."""

    def gpus(self) -> GpusView:
        """Return what each GPU reported last, and which job has it."""
        ...


class EgressApi(Protocol):
    """What jobs of others reached on the network."""

    async def reached(self, lease: str, limit: int) -> tuple[ReachedView, ...]:
        """Return what leases reached whose id begins so, the latest first."""
        ...


class TraceApi(Protocol):
    """What this node saw, for the laboratory."""

    def trace(self, since_ms: int | None, follow_ms: int | None) -> AsyncIterator[bytes]:
        """Yield lines of a trace: of past jobs since an instant, then of what happens."""
        ...


@dataclass(frozen=True, slots=True)
class Service:
    """The daemon's interface for its user."""

    jobs: JobApi
    images: ImageApi
    node: NodeApi
    advice: AdviceApi
    traces: TraceApi
    owner: OwnerApi
    gpus: GpuApi
    egress: EgressApi
