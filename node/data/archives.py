"""An image as one file for `docker load`.

The engine unpacks what it gets, as root and without a bound. So each layer is first read as if it
were unpacked here.

Spec: specs/data.md#docker-archive.
"""

import hashlib
import io
import tarfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import trio

from node.data.blobs import BlobRef
from node.data.disk import full_disk_as_storage_full
from node.data.layers import Allowance, check_layer
from node.data.manifest import Layer, encode
from protocol.values.errors import BlobUnavailable
from protocol.values.ids import Digest


def docker_name(image: Digest) -> str:
    """Return the name under which the engine knows an image after `docker load`."""
    return f"mutirao:{image.hex()}"


def write_docker_archive(
    name: str,
    config: tuple[BlobRef, Path],
    layers: Sequence[tuple[Layer, Path]],
    target: Path,
    allowance: Allowance,
) -> None:
    """Write the archive; each blob is given with its path. It blocks.

    InvalidRequest if layers are broken or unpack to more than allowed, BlobUnavailable if a blob
    was damaged on disk, StorageFull if the disk is full; the target is then not there.
    """
    for layer, path in layers:  # One that occurs twice is unpacked twice.
        check_layer(layer, path, allowance)
    config_name = f"{config[0].digest.hex()}.json"
    layer_names = [f"{layer.ref.digest.hex()}.tar" for layer, _ in layers]
    listing = encode({"Config": config_name, "RepoTags": [name], "Layers": layer_names})
    # A layer may occur twice in the image, and stands once in the archive.
    blobs = [(layer.ref, path) for layer, path in layers]
    parts = {config_name: config, **dict(zip(layer_names, blobs, strict=True))}
    temporary = target.with_name(f"{target.name}.writing")
    with full_disk_as_storage_full(target.parent), ExitStack() as undo:
        undo.callback(temporary.unlink, missing_ok=True)
        with tarfile.open(temporary, "w", format=tarfile.GNU_FORMAT) as archive:
            for part_name, (ref, path) in parts.items():
                _add_blob(archive, part_name, ref, path)
            data = b"[" + listing + b"]"
            archive.addfile(_entry("manifest.json", len(data)), io.BytesIO(data))
        temporary.replace(target)


def _add_blob(archive: tarfile.TarFile, name: str, ref: BlobRef, path: Path) -> None:
    with path.open("rb") as file:
        reader = _Hashing(file)
        try:
            archive.addfile(_entry(name, ref.size), reader)
        except OSError as error:
            if error.errno is not None:  # tarfile's own, for too few bytes, has none.
                raise
    if reader.whole.digest() != ref.digest:
        raise BlobUnavailable(f"blob sha256:{ref.digest.hex()[:12]} was damaged on disk")


def _entry(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = size
    return info


class _Hashing:
    """A file whose bytes are hashed as they are read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.whole = hashlib.sha256()

    def read(self, size: int = -1, /) -> bytes:
        trio.from_thread.check_cancelled()
        data = self._file.read(size)
        self.whole.update(data)
        return data
