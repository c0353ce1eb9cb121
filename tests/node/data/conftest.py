"""What the tests of node/data share: a blob index in memory, and a stream between two peers.

Spec: specs/data.md.
"""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
import trio
import trio.testing

from node.data.blobs import Blobs
from node.data.transfer import Ways
from protocol.values.errors import PeerFault, PeerUnreachable
from protocol.values.ids import Digest, PeerId
from tests.node.memory_stream import Handler, MemoryStream, memory_streams


class MemoryIndex:
    """A BlobIndex that forgets everything at the end of the test."""

    def __init__(self) -> None:
        self.rows: dict[Digest, tuple[int, str]] = {}

    async def record_blobs(self, blobs: Sequence[tuple[Digest, int, str]]) -> None:
        self.rows |= {digest: (size, kind) for digest, size, kind in blobs}

    async def forget_blobs(self, digests: Sequence[Digest]) -> None:
        for digest in digests:
            self.rows.pop(digest, None)

    async def known_blobs(self) -> tuple[tuple[Digest, int, str], ...]:
        return tuple((digest, size, kind) for digest, (size, kind) in self.rows.items())


class Peers:
    """Some peers that serve streams; `open_stream` is what the network gives to a fetcher."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.handlers: dict[PeerId, Handler] = {}
        self.opened: list[PeerId] = []
        self.served_faults: list[PeerFault] = []
        self.ways = Ways(self.open_stream)
        self._nursery = nursery

    async def open_stream(self, peer: PeerId, protocol: str) -> MemoryStream:
        assert protocol == "/mutirao/blob/1"
        self.opened.append(peer)
        if peer not in self.handlers:
            raise PeerUnreachable("no address answers")
        served, mine = memory_streams(PeerId("fetcher"), peer)
        self._nursery.start_soon(self._serve, self.handlers[peer], served)
        return mine

    async def _serve(self, handler: Handler, stream: MemoryStream) -> None:
        try:
            await handler(stream.peer, stream)
        except PeerFault as fault:
            self.served_faults.append(fault)
        except PeerUnreachable:
            with suppress(PeerUnreachable):
                await stream.close()  # What it has sent still arrives.


@pytest.fixture
def index() -> MemoryIndex:
    return MemoryIndex()


@pytest.fixture
def open_blobs(tmp_path: Path) -> Callable[..., Awaitable[Blobs]]:
    """Return a function that opens a blob folder of a name, as a new process would."""

    async def opened(name: str = "blobs", budget_mib: int = 256) -> Blobs:
        blobs = Blobs(tmp_path / name, MemoryIndex(), budget_mib)
        await blobs.reconcile()
        return blobs

    return opened


@pytest.fixture
async def peers() -> AsyncIterator[Peers]:
    async with trio.open_nursery() as nursery:
        yield Peers(nursery)
        nursery.cancel_scope.cancel()


@pytest.fixture
def tar() -> Callable[..., bytes]:
    """Return a function that makes a layer: (name, kind or data, more fields of TarInfo)."""

    def made(*entries: tuple) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for name, content, *more in entries:
                info = tarfile.TarInfo(name)
                info.mode = 0o644
                data = content if isinstance(content, bytes) else b""
                if isinstance(content, str):
                    code, _, info.linkname = content.partition(" ")
                    info.type = getattr(tarfile, code)
                for field, value in more[0].items() if more else ():
                    setattr(info, field, value)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        return buffer.getvalue()

    return made


def sha(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@pytest.fixture
def make_image() -> Callable[..., Awaitable[Digest]]:
    """Return a function that puts an image of these uncompressed layers into a blob folder."""

    async def made(blobs: Blobs, *layers: bytes, packing: str = "+gzip", **changes) -> Digest:
        descriptors = []
        for layer in layers:
            blob = changes.get("blob")
            blob = blob or (gzip.compress(layer, 1, mtime=0) if packing == "+gzip" else layer)
            await blobs.put_bytes(blob, "image")
            kind = f"application/vnd.oci.image.layer.v1.tar{packing}"
            descriptors.append({"mediaType": kind, "digest": sha(blob), "size": len(blob)})
        config = {
            "config": changes.get("config", {}),
            "rootfs": {"diff_ids": changes.get("diff_ids", [sha(layer) for layer in layers])},
        }
        data = json.dumps(config).encode()
        await blobs.put_bytes(data, "image")
        manifest = {
            "schemaVersion": 2,
            "config": {"mediaType": "x", "digest": sha(data), "size": len(data)},
            "layers": descriptors,
        }
        return (await blobs.put_bytes(json.dumps(manifest).encode(), "image")).digest

    return made
