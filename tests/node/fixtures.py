"""Shared by the daemon's tests: folders of a node, a sandbox without containers, a recorded inbox.

Spec: specs/core.md#daemon.
"""

import gzip
import hashlib
import io
import json
import socket
import tarfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import trio
import trio.testing

from node.config import ProviderSettings
from node.data.blobs import Blobs
from node.data.images import Images
from node.data.transfer import PROTOCOL as BLOB_PROTOCOL
from node.data.transfer import BlobFetcher, BlobServer, Ways
from node.egress.egress import Egress
from node.egress.log import EgressLog
from node.provider.execution_context import ExecutionContext
from node.provider.executions import Executions
from node.provider.image_cache import ImageCache
from node.provider.preparation import PreparationMeter
from node.provider.proofs import Proofs
from node.requester.results import Results
from node.sandbox.driver import (
    ContainerSpec,
    Exit,
    ImageSource,
    Probe,
    checkpoint_path,
    log_path,
    outputs_path,
)
from node.storage.journal import Journal
from protocol.machines import effects
from protocol.machines.inputs import Input
from protocol.rules.capacity import Reservation
from protocol.values.errors import (
    SandboxUnavailable,
)
from protocol.values.ids import Digest, JobId, LeaseId, PeerId, digest_of
from protocol.wire.envelope import KeySigner
from protocol.wire.job import BlobRef, FileRef, JobSpec, Resources, Terms, Workload
from tests.node.memory_stream import MemoryStreams

NETWORK = "test"
ADA, BEA, EVE = (KeySigner(digest_of(name), NETWORK) for name in (b"ada", b"bea", b"eve"))
"""The requester, the provider, and a third peer."""
LEASE = LeaseId(b"L" * 32)
JOB = JobId(b"J" * 16)
RESERVATION = Reservation(Resources(memory_mib=64, disk_mib=16))
PATIENCE_S = 15


async def until(condition: Callable[[], Any], what: str = "it") -> Any:
    """Return the condition's value as soon as it is true."""
    with trio.move_on_after(PATIENCE_S):
        while not (found := condition()):  # noqa: ASYNC110 - nothing signals the condition.
            await trio.sleep(0.002)
        return found
    raise AssertionError(f"waited {PATIENCE_S} s for {what}")


class RecordedInbox:
    """Accepts inputs like the driver, and records them."""

    def __init__(self) -> None:
        self.events: list[Input] = []

    def give(self, event: Input) -> bool:
        self.events.append(event)
        return True

    async def take(self, event: Input) -> None:
        await trio.lowlevel.checkpoint()
        self.events.append(event)

    async def wait_for(self, kind: type) -> Any:
        """Return the first input of a kind, and discard all up to it."""

        def index() -> int:
            return next((n for n, e in enumerate(self.events, 1) if isinstance(e, kind)), 0)

        number = await until(index, f"{kind.__name__}, not {self.events}")
        event = self.events[number - 1]
        del self.events[:number]
        return event


@dataclass
class ObedientContainer:
    """A container that the test controls."""

    spec: ContainerSpec
    ended: trio.Event = field(default_factory=trio.Event)
    exit: Exit = field(default_factory=lambda: Exit(0, "exited", "", 10))
    used_ms: int = 0


class ObedientSandbox:
    """A sandbox without containers: a test ends them with `finish`."""

    name = "obedient"
    isolation = 1

    def __init__(self) -> None:
        self.containers: dict[Path, ObedientContainer] = {}
        self.lost: set[Path] = set()
        """Folders of containers that may have run and left no result."""
        self.started: list[str] = []
        self.prepared: list[Digest] = []
        """Images that `prepare` was called with."""
        self.prepares = trio.Event()
        """While it is not set, `prepare` does not return."""
        self.prepares.set()
        self.budgets: list[int] = []
        self.killed: list[Path] = []
        self.terminated: list[Path] = []
        self.copies = trio.Event()
        """While it is not set, `copy_checkpoint` does not return."""
        self.copies.set()
        self.checkpoints: dict[Path, tuple[bytes, dict[str, bytes]]] = {}
        """What lies at a checkpoint's path in a container: its mark, and its files."""
        self.listeners: dict[Path, int] = {}
        """The ports of the proxies of containers."""
        self.asked: list[str] = []
        """Containers that `start` was called with."""
        self.removed: list[Path] = []
        self.reaped: list[frozenset[str]] = []
        self.refuses: Exception | None = None
        self.starts = trio.Event()
        """While it is not set, `start` does not return."""
        self.starts.set()

    async def check(self) -> Probe:
        return Probe(ok=True, why="it does as it is told")

    async def prepare(self, image: ImageSource) -> str:
        self.prepared.append(image.digest)
        await self.prepares.wait()
        return str(await image.unpack())

    async def take_over(self, folder: Path) -> bool:
        await trio.lowlevel.checkpoint()
        if folder in self.lost:
            raise SandboxUnavailable("the container was lost")
        return folder in self.containers

    async def start(self, spec: ContainerSpec, folder: Path) -> None:
        self.asked.append(spec.name)
        await self.starts.wait()
        if self.refuses is not None:
            raise self.refuses
        self.started.append(spec.name)
        log_path(folder).write_bytes(b"")
        self.containers[folder] = ObedientContainer(spec)

    async def wait(self, folder: Path) -> Exit:
        await self.containers[folder].ended.wait()
        return self.containers[folder].exit

    def usage_ms(self, folder: Path) -> int:
        return self.containers[folder].used_ms if folder in self.containers else 0

    async def check_egress(self) -> str:
        return ""

    async def proxy_listener(self, folder: Path) -> socket.socket:
        await trio.lowlevel.checkpoint()
        if self.refuses is not None:
            raise self.refuses
        listener = socket.create_server(("127.0.0.1", 0))
        self.listeners[folder] = listener.getsockname()[1]
        return listener

    async def copy_checkpoint(self, folder: Path, path: str, mark: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        if self.refuses is not None:
            raise self.refuses
        await self.copies.wait()
        found, files = self.checkpoints.get(folder, (b"", {}))
        if found in {b"", mark}:
            return b""
        for name, data in files.items():
            place = checkpoint_path(folder) / path / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
        return found

    async def terminate(self, folder: Path) -> None:
        await trio.lowlevel.checkpoint()
        self.terminated.append(folder)

    async def kill(self, folder: Path) -> None:
        await trio.lowlevel.checkpoint()
        if self.refuses is not None:
            raise self.refuses
        self.killed.append(folder)
        if folder in self.containers:
            self.finish(folder, Exit(137, "killed", "", 5))

    async def extend(self, folder: Path, budget_ms: int) -> None:
        (folder / "budget").write_text(str(budget_ms))
        self.budgets.append(budget_ms)
        await trio.lowlevel.checkpoint()

    async def remove(self, folder: Path) -> None:
        if self.refuses is not None:
            raise self.refuses
        self.removed.append(folder)
        self.containers.pop(folder, None)
        await trio.to_thread.run_sync(remove_tree, folder)

    async def reap(self, names: frozenset[str]) -> None:
        await trio.lowlevel.checkpoint()
        self.reaped.append(names)

    def finish(self, folder: Path, ended: Exit | None = None, **files: bytes) -> None:
        """End a container with these output files."""
        container = self.containers[folder]
        container.exit = ended or container.exit
        outputs_path(folder).mkdir(exist_ok=True)
        for name, data in files.items():
            place = outputs_path(folder) / name
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(data)
        container.ended.set()


def remove_tree(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()


@dataclass
class NodeFolder:
    """One node's folders and their content."""

    folder: Path
    journal: Journal
    blobs: Blobs
    images: Images
    context: ExecutionContext
    inbox: RecordedInbox

    @property
    def proofs(self) -> Proofs:
        return Proofs(self.folder / "proofs")

    @property
    def sandbox(self) -> ObedientSandbox:
        return self.context.sandbox  # type: ignore[return-value]

    def run_folder(self) -> Path:
        return self.context.run_folder(LEASE)

    def executions(self, **changes: Any) -> Executions:
        return Executions(replace(self.context, **changes), self.inbox)

    def results(self, streams: MemoryStreams, own: PeerId = ADA.peer_id) -> Results:
        jobs = self.folder / "jobs"
        return Results(jobs, self.blobs, self.context.fetcher, streams.opener(own), self.inbox)

    async def image(self, content: bytes = b"hello", *, packed: bool = False) -> Digest:
        """Store a small image, and return its digest."""
        layer = io.BytesIO()
        with tarfile.open(fileobj=layer, mode="w") as archive:
            info = tarfile.TarInfo("file")
            info.size, info.mode = len(content), 0o644
            archive.addfile(info, io.BytesIO(content))
        raw = layer.getvalue()
        data, packing = (gzip.compress(raw), "+gzip") if packed else (raw, "")
        config = json.dumps({"config": {}, "rootfs": {"diff_ids": [_sha(raw)]}}).encode()
        manifest = {
            "schemaVersion": 2,
            "config": {"mediaType": "x", "digest": _sha(config), "size": len(config)},
            "layers": [{
                "mediaType": f"application/vnd.oci.image.layer.v1.tar{packing}",
                "digest": _sha(data), "size": len(data),
            }],
        }  # fmt: skip
        for blob in (data, config):
            await self.blobs.put_bytes(blob, "image")
        return (await self.blobs.put_bytes(json.dumps(manifest).encode(), "image")).digest

    async def workload(self, *inputs: tuple[str, bytes], **changes: Any) -> Workload:
        """Return a workload whose image and inputs are stored here."""
        image = await self.image()
        files = tuple(
            [FileRef(name, await self.blobs.put_bytes(data, "input")) for name, data in inputs]
        )
        size = sum(part.size for part in await self.images.parts(image))
        fields = {"resources": Resources(memory_mib=64, disk_mib=16), "image_bytes": size}
        small = {
            "command": ("true",),
            "timeout_ms": 20_000,
            "output_mib": 1,
            "log_mib": 1,
            "processes": 16,
        }
        return Workload(image, inputs=files, **(small | fields | changes))


def egress_of(folder: Path, *names: str) -> Egress:
    return Egress(ProviderSettings(), names, EgressLog(folder, lambda: 1))


async def make_node_folder(
    folder: Path, journal: Journal, open_stream: Any, sandbox: Any, budget_mib: int = 256
) -> NodeFolder:
    for name in ("runs", "roots", "jobs", "blobs"):
        (folder / name).mkdir(parents=True, exist_ok=True, mode=0o700)
    blobs = Blobs(folder / "blobs", journal, budget_mib)
    await blobs.reconcile()
    images = Images(blobs, folder / "blobs")
    fetcher = BlobFetcher(blobs, Ways(open_stream))
    cache = ImageCache(folder / "roots", images, budget_mib)
    meter = PreparationMeter(cache.unpacked, lambda: blobs.of_kind("image"))
    egress = egress_of(folder)
    context = ExecutionContext(
        blobs, images, fetcher, sandbox, folder / "runs", cache, meter, egress
    )
    return NodeFolder(folder, journal, blobs, images, context, RecordedInbox())


def serve_blobs(streams: MemoryStreams, peer: PeerId, blobs: Blobs) -> None:
    streams.handlers[peer, BLOB_PROTOCOL] = BlobServer(blobs).serve


def spec_of(workload: Workload, **changes: Any) -> JobSpec:
    return JobSpec("test", workload, **({"terms": Terms(100_000)} | changes))


def ref_of(data: bytes) -> BlobRef:
    return BlobRef(digest_of(data), len(data))


def _sha(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@asynccontextmanager
async def running(executions: Executions) -> AsyncIterator[Executions]:
    async with trio.open_nursery() as nursery:
        await nursery.start(executions.run)
        yield executions
        nursery.cancel_scope.cancel()


def launch_of(workload: Workload, budget_ms: int = 35_000) -> effects.Launch:
    return effects.Launch(LEASE, ADA.peer_id, workload, RESERVATION, budget_ms, 0)
