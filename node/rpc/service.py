"""What the API needs of the daemon: one object with these methods.

Every method may raise a `NodeError`; the API answers with its code and its one line of text.
`reference` is a job id in hex or a prefix of at least 6 digits that fits one job.
Spec: specs/rpc.md#service.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

from node.rpc.views import (
    BlobView,
    ImageView,
    JobEventView,
    JobView,
    OfferView,
    OutputView,
    PeerView,
    StatusView,
)
from protocol.wire.job import JobSpec


class Service(Protocol):
    """The daemon, as its own user sees it."""

    def status(self) -> StatusView: ...

    def peers(self) -> tuple[PeerView, ...]: ...

    def offers(self) -> tuple[OfferView, ...]: ...

    async def submit(self, spec: JobSpec) -> JobView:
        """Take a job on; the same non-empty key again returns the same job.

        Raises InvalidRequest, Conflict (same key, other job), StorageFull, or NotFound (image).
        """
        ...

    async def jobs(self, limit: int, before: str | None) -> tuple[JobView, ...]:
        """Return at most `limit` jobs, newest first, that are older than the job `before`."""
        ...

    async def job(self, reference: str) -> JobView: ...

    async def cancel(self, reference: str) -> JobView:
        """Cancel a job; a job that has ended is returned as it is."""
        ...

    def events(self, reference: str, after: int) -> AsyncIterator[JobEventView]:
        """Yield what happened after event number `after`, then what happens, to the job's end."""
        ...

    def logs(self, reference: str, offset: int, follow: bool) -> AsyncIterator[bytes]:  # noqa: FBT001
        """Yield the log from byte `offset`; with `follow`, until the job has ended."""
        ...

    async def outputs(self, reference: str) -> tuple[OutputView, ...]: ...

    async def output(self, reference: str, path: str) -> tuple[OutputView, Path]:
        """Return a file that a job left, and where its bytes lie; NotFound, BlobUnavailable."""
        ...

    async def put_blob(self, chunks: AsyncIterator[bytes]) -> BlobView:
        """Keep the bytes as a job's input; StorageFull if they find no room."""
        ...

    async def import_image(self, path: Path) -> ImageView: ...

    async def build_base(self) -> ImageView: ...

    async def images(self) -> tuple[ImageView, ...]: ...

    async def resolve_image(self, reference: str) -> str:
        """Return the digest (64 hex digits) of a tag, digest or digest's prefix; NotFound."""
        ...

    def request_stop(self) -> None:
        """Ask the daemon to stop, and return at once."""
        ...
