"""Pulls an image: the manifest for a platform, then the blobs that are not here yet.

Every byte is verified by digest while it arrives. An interrupted blob resumes where it stopped.
Spec: specs/registries.md#pull.
"""

import hashlib
import os
import secrets
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from node.data.blobs import BlobRef, Blobs, Complete
from node.data.disk import CHUNK, full_disk_as_storage_full
from node.data.manifest import (
    INDEX_TYPES,
    Descriptor,
    ImageConfig,
    fits_platform,
    layers_of,
    media_type_of,
    parse_config,
    parse_index,
    parse_manifest,
)
from node.data.unpack import write_all
from node.registry.client import RegistryClient
from node.registry.errors import PlatformMismatch, RegistryLied
from node.registry.reference import Reference
from protocol.values.errors import NodeError
from protocol.values.ids import Digest, digest_of

PARALLEL_MAX: Final = 3
"""Blobs that are fetched at the same time."""
PAUSE_S: Final = 0.5
"""Before another connection after one without progress; it grows."""
PLATFORMS_TOLD_MAX: Final = 12

Report = Callable[[int, int], Awaitable[None]]
"""Called with the bytes that are here and the bytes of the whole image."""


@dataclass(frozen=True, slots=True)
class RemoteImage:
    """What a reference refers to now, for one platform; "" stands for any."""

    reference: Reference
    platform: str
    manifest: bytes

    @property
    def digest(self) -> Digest:
        """Return the digest of the image."""
        return digest_of(self.manifest)


async def look_up(client: RegistryClient, platform: str) -> RemoteImage:
    """Return the manifest of the client's reference for a platform.

    PlatformMismatch if there is none; otherwise what `RegistryClient.manifest` raises, or
    InvalidRequest if a document is malformed.
    """
    reference = client.reference
    data = await client.manifest(reference.version)
    if media_type_of(data) in INDEX_TYPES:
        chosen = _for_platform(reference, parse_index(data), platform)
        data = await client.manifest(f"sha256:{chosen.ref.digest.hex()}")
        parse_manifest(data)
    else:
        config = parse_config(await client.small_blob(parse_manifest(data).config.digest))
        _require_platform(reference, config, platform)
    return RemoteImage(reference, platform, data)


async def pull(
    client: RegistryClient, blobs: Blobs, found: RemoteImage, owner: str, report: Report
) -> Digest:
    """Fetch all blobs of an image that are missing, pinned for an owner; return its digest.

    RegistryUnavailable, RegistryLied, StorageFull, PlatformMismatch, or InvalidRequest if the
    image is malformed.
    """
    manifest = parse_manifest(found.manifest)
    refs = tuple(dict.fromkeys((manifest.config, *(layer.ref for layer in manifest.layers))))
    blobs.pin(owner, found.digest, *(ref.digest for ref in refs))
    progress = _Progress(sum(ref.size for ref in refs), report)
    fetch = _Fetch(client, blobs, progress)
    await fetch.one(manifest.config)
    config = parse_config(await blobs.read(manifest.config.digest))
    layers_of(manifest, config)
    if found.platform:
        _require_platform(found.reference, config, found.platform)
    await fetch.all(refs[1:])
    await blobs.put_bytes(found.manifest, "image")
    return found.digest


class _Progress:
    """Counts the bytes that are here."""

    def __init__(self, total: int, report: Report) -> None:
        self._total = total
        self._done = 0
        self._report = report

    async def add(self, count: int) -> None:
        self._done += count
        await self._report(self._done, self._total)


class _Fetch:
    """Fetches blobs of one image."""

    def __init__(self, client: RegistryClient, blobs: Blobs, progress: _Progress) -> None:
        self._client = client
        self._blobs = blobs
        self._progress = progress

    async def all(self, refs: tuple[BlobRef, ...]) -> None:
        """Fetch blobs, some at a time; the first failure ends it."""
        limit = trio.CapacityLimiter(PARALLEL_MAX)
        failures: list[NodeError] = []

        async def fetch(ref: BlobRef, cancel: Callable[[], None]) -> None:
            try:
                async with limit:
                    await self.one(ref)
            except NodeError as error:
                failures.append(error)
                cancel()

        async with trio.open_nursery() as nursery:
            for ref in refs:
                nursery.start_soon(fetch, ref, nursery.cancel_scope.cancel)
        if failures:
            raise failures[0]

    async def one(self, ref: BlobRef) -> None:
        """Fetch a blob, unless it is here."""
        if self._is_here(ref):
            await self._progress.add(ref.size)
            return
        async with self._blobs.partial(ref.digest, ref.size) as path:
            if not self._is_here(ref):  # Another transfer may have fetched it meanwhile.
                await self._fill(ref, path)
                await self._blobs.adopt(Complete(path, ref, "image"))

    def _is_here(self, ref: BlobRef) -> bool:
        return self._blobs.ref(ref.digest) == ref and self._blobs.path(ref.digest) is not None

    async def _fill(self, ref: BlobRef, path: Path) -> None:
        """Complete the file of a blob, over several connections if one is lost."""
        part = await trio.to_thread.run_sync(_Part.resume, path, ref.size)
        try:
            await self._progress.add(part.size)
            idle = 0
            while part.size < ref.size:
                before = part.size
                await self._receive(ref, part)
                idle = 0 if part.size > before else idle + 1
                if idle == self._client.attempts:
                    raise self._client.unavailable(f"it does not send all of {_short(ref)}")
                await trio.sleep(PAUSE_S * idle)
            if part.digest != ref.digest:
                raise self._client.lie(f"the bytes of {_short(ref)} have another digest")
        except RegistryLied:
            part.restart()
            raise
        finally:
            part.close()

    async def _receive(self, ref: BlobRef, part: "_Part") -> None:
        """Append what one connection sends."""
        async with self._client.blob(ref.digest, part.size) as answer:
            if answer.offset != part.size:
                await self._progress.add(-part.size)
                part.restart()
            while chunk := await answer.read():
                if part.size + len(chunk) > ref.size:
                    raise self._client.lie(f"{_short(ref)} has more than {ref.size} bytes")
                await trio.to_thread.run_sync(part.append, chunk)
                await self._progress.add(len(chunk))


class _Part:
    """The file of a blob that is being fetched. Its methods block."""

    def __init__(self, path: Path) -> None:
        self.size = 0
        self._path = path
        self._hash = hashlib.sha256()
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.fdopen(os.open(path, flags, 0o600), "r+b", buffering=0)

    @classmethod
    def resume(cls, path: Path, size_max: int) -> "_Part":
        """Open a file and hash what an earlier transfer has left."""
        with ExitStack() as undo:
            part = cls(path)
            undo.callback(part.close)
            while part.size < size_max and (data := part._file.read(CHUNK)):
                trio.from_thread.check_cancelled()
                part._hash.update(data)
                part.size += len(data)
            if part.size > size_max:
                part.restart()
            undo.pop_all()
        return part

    @property
    def digest(self) -> Digest:
        return Digest(self._hash.digest())

    def append(self, data: bytes) -> None:
        with full_disk_as_storage_full(self._path.parent):
            write_all(self._file.fileno(), data)
        self._hash.update(data)
        self.size += len(data)

    def restart(self) -> None:
        """Discard everything."""
        self._file.truncate(0)
        self._file.seek(0)
        self._hash = hashlib.sha256()
        self.size = 0

    def close(self) -> None:
        self._file.close()


def _for_platform(
    reference: Reference, entries: tuple[Descriptor, ...], platform: str
) -> Descriptor:
    for entry in entries:
        if fits_platform(entry.platform, platform):
            return entry
    raise _mismatch(reference, platform, [entry.platform for entry in entries])


def _require_platform(reference: Reference, config: ImageConfig, platform: str) -> None:
    if config.platform and not fits_platform(config.platform, platform):
        raise _mismatch(reference, platform, [config.platform])


def _short(ref: BlobRef) -> str:
    return f"the blob sha256:{ref.digest.hex()[:12]}"


def _mismatch(reference: Reference, platform: str, offered: list[str]) -> PlatformMismatch:
    known = sorted({each for each in offered if each and "unknown" not in each})
    told = ", ".join(known[:PLATFORMS_TOLD_MAX]) or "none that it names"
    return PlatformMismatch(f"{reference} has no image for {platform}; it has: {told}")


def pull_owner() -> str:
    """Return a new owner for the pins of one pull."""
    return f"pull {secrets.token_hex(8)}"
