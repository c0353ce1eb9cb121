"""Images from a user's file or folder: `docker save`, an OCI layout, or a tar of one.

Spec: specs/data.md#import.
"""

import posixpath
import secrets
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Protocol

import trio

from node.data.blobs import BlobRef, Blobs
from node.data.disk import Readable, open_regular
from node.data.manifest import (
    DOCUMENT_MAX,
    INDEX_TYPES,
    LAYER_TYPE,
    Descriptor,
    fits_platform,
    layers_of,
    manifest_of,
    own_platform,
    parse_config,
    parse_index,
    parse_json,
    parse_manifest,
    require_size,
)
from node.data.tar import TarReader
from protocol.values.errors import InvalidRequest
from protocol.values.ids import Digest

ENTRIES_MAX: Final = 10_000
"""Entries of an archive: an image has about two for each layer."""
GZIP_MAGIC: Final = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class Imported:
    """An imported image, with the names that its archive gives it."""

    digest: Digest
    names: tuple[str, ...]


class ArchiveSource(Protocol):
    """The files of an archive, by their names."""

    def open(self, name: str) -> tuple[Readable, int] | None:
        """Return a file and its size in bytes, None if there is no such file."""
        ...

    def close(self) -> None:
        """Close the open files."""
        ...


async def import_image(blobs: Blobs, path: Path) -> Imported:
    """Import all blobs of the image; InvalidRequest if it is broken, or not exactly one image.

    The blobs are pinned during the import only.
    """
    owner = f"import {secrets.token_hex(8)}"
    source = await trio.to_thread.run_sync(_open_source, path)
    try:
        return await _Import(blobs, source, owner).run()
    finally:
        source.close()
        blobs.unpin(owner)


class FolderSource:
    """An OCI layout in a user's folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: BinaryIO | None = None

    def open(self, name: str) -> tuple[Readable, int] | None:
        """Return a file and its size in bytes, None if there is no such file."""
        self.close()
        path = self._folder / name
        if not path.exists():
            return None
        self._file = open_regular(path)
        return self._file, path.stat().st_size

    def close(self) -> None:
        """Close the file that was opened last."""
        if self._file is not None:
            self._file.close()
            self._file = None


class TarSource:
    """An archive in a user's tar file. One of its files is read at a time."""

    def __init__(self, file: BinaryIO) -> None:
        """Index the archive; InvalidRequest if it is not one."""
        self._file = file
        self._places: dict[str, tuple[int, int]] = {}
        self._links: dict[str, str] = {}
        if file.read(2) == GZIP_MAGIC:
            raise InvalidRequest("the archive is compressed: unpack it with gunzip first")
        file.seek(0)
        reader = TarReader(file, lambda count: file.seek(count, 1))
        for number, entry in enumerate(reader):
            trio.from_thread.check_cancelled()
            if number >= ENTRIES_MAX:
                raise InvalidRequest(f"the archive has more than {ENTRIES_MAX} entries")
            name = posixpath.normpath(entry.name)
            if entry.kind == "file":
                self._places[name] = (reader.offset, entry.size)
            elif entry.kind == "symbolic link":
                # Old engines write a layer that occurs twice as a link to the first.
                target = posixpath.join(posixpath.dirname(name), entry.link)
                self._links[name] = posixpath.normpath(target)

    def open(self, name: str) -> tuple[Readable, int] | None:
        """Return a file and its size in bytes, None if there is no such file."""
        name = posixpath.normpath(name)
        place = self._places.get(self._links.get(name, name))
        if place is None:
            return None
        self._file.seek(place[0])
        return _Part(self._file, place[1]), place[1]

    def close(self) -> None:
        """Close the archive."""
        self._file.close()


class _Part:
    """The next `size` bytes of a file; InvalidRequest if it has fewer."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._left = size

    def read(self, size: int, /) -> bytes:
        data = self._file.read(min(size, self._left))
        if self._left and size and not data:
            raise InvalidRequest("the archive ends in the middle of a file")
        self._left -= len(data)
        return data


class _Import:
    """One import: documents first, so nothing large is copied in vain."""

    def __init__(self, blobs: Blobs, source: ArchiveSource, owner: str) -> None:
        self._blobs = blobs
        self._source = source
        self._owner = owner

    async def run(self) -> Imported:
        if (index := await self._document("index.json")) is not None:
            return await self._from_layout(parse_index(index))
        if (listing := await self._document("manifest.json")) is not None:
            return await self._from_docker_save(parse_json(listing, "listing"))
        raise InvalidRequest("this is not an image: it has neither index.json nor manifest.json")

    async def _from_layout(self, descriptors: tuple[Descriptor, ...]) -> Imported:
        chosen = _only_one(descriptors)
        if chosen.media_type in INDEX_TYPES:
            inner = await self._required(_blob_name(chosen.ref))
            named = chosen
            chosen = _only_one(_for_this_machine(parse_index(inner)))
            chosen = Descriptor(chosen.ref, chosen.media_type, name=named.name)
        data = await self._required(_blob_name(chosen.ref))
        manifest = parse_manifest(data)
        layers_of(manifest, parse_config(await self._required(_blob_name(manifest.config))))
        for layer in (*manifest.layers, Descriptor(manifest.config, "")):
            require_size(await self._put(_blob_name(layer.ref), layer.ref.digest), layer.ref)
        ref = await self._put(_blob_name(chosen.ref), chosen.ref.digest)
        return Imported(ref.digest, (chosen.name,) if chosen.name else ())

    async def _from_docker_save(self, listing: object) -> Imported:
        match listing:
            case [{"Config": str(config_name), "Layers": [*layer_names], **more}]:
                pass
            case [_, _, *_]:
                raise InvalidRequest("the archive holds several images: save one at a time")
            case _:
                raise InvalidRequest("the archive has a malformed manifest.json")
        config = parse_config(await self._required(config_name))
        layers = [await self._put_docker_layer(name) for name in layer_names]
        ref = await self._put(config_name)
        manifest = manifest_of(ref, layers)
        layers_of(parse_manifest(manifest), config)
        image = await self._blobs.put_bytes(manifest, "image")
        tags = more.get("RepoTags")
        names = tags if isinstance(tags, list) else []
        return Imported(image.digest, tuple(name for name in names if isinstance(name, str)))

    async def _put_docker_layer(self, name: object) -> Descriptor:
        if not isinstance(name, str):
            raise InvalidRequest("the archive has a layer without a name")
        opened = await trio.to_thread.run_sync(self._source.open, name)
        head = opened[0].read(2) if opened else b""
        packed = "+gzip" if head == GZIP_MAGIC else ""
        return Descriptor(await self._put(name), f"{LAYER_TYPE}{packed}")

    async def _put(self, name: str, expected: Digest | None = None) -> BlobRef:
        """Import one file as a blob, unless its digest is here already."""
        if expected is not None:
            self._blobs.pin(self._owner, expected)
            here = self._blobs.ref(expected)
            if here is not None and self._blobs.path(expected) is not None:
                return here
        opened = await trio.to_thread.run_sync(self._source.open, name)
        if opened is None:
            raise InvalidRequest(f"the image is incomplete: {name!r:.120} is missing")
        ref = await self._blobs.put_stream(opened[0], opened[1], "image", expected)
        self._blobs.pin(self._owner, ref.digest)
        return ref

    async def _required(self, name: str) -> bytes:
        data = await self._document(name)
        if data is None:
            raise InvalidRequest(f"the image is incomplete: {name!r:.120} is missing")
        return data

    async def _document(self, name: str) -> bytes | None:
        opened = await trio.to_thread.run_sync(self._source.open, name)
        if opened is None:
            return None
        if opened[1] > DOCUMENT_MAX:
            raise InvalidRequest(f"the image is inconsistent: {name!r:.120} has {opened[1]} bytes")
        return await trio.to_thread.run_sync(opened[0].read, DOCUMENT_MAX)


def _open_source(path: Path) -> ArchiveSource:
    if path.is_dir():
        return FolderSource(path)
    with ExitStack() as undo:
        file = undo.enter_context(open_regular(path))
        source = TarSource(file)
        undo.pop_all()
    return source


def _blob_name(ref: BlobRef) -> str:
    return f"blobs/sha256/{ref.digest.hex()}"


def _for_this_machine(descriptors: tuple[Descriptor, ...]) -> tuple[Descriptor, ...]:
    fitting = tuple(each for each in descriptors if fits_platform(each.platform, own_platform()))
    if not fitting:
        raise InvalidRequest(f"the image has no variant for {own_platform()}")
    return fitting


def _only_one(descriptors: tuple[Descriptor, ...]) -> Descriptor:
    """Return the only image; it may have several names."""
    if len({entry.ref.digest for entry in descriptors}) > 1:
        with_platform = tuple(entry for entry in descriptors if entry.platform)
        descriptors = _for_this_machine(with_platform) if with_platform else descriptors
    if len({entry.ref.digest for entry in descriptors}) != 1:
        raise InvalidRequest("the archive does not hold exactly one image: save one at a time")
    return descriptors[0]
