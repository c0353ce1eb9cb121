"""An image as one file for `docker load`.

The engine unpacks what it gets, as root and without a bound. So each layer is first read as if it
were unpacked here. It also does what an image's config says, unless a container says otherwise. So
it gets a config that the node writes, which lists the layers alone.

Spec: specs/data.md#docker-archive.
"""

import hashlib
import io
import tarfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Final

import trio

from node.data.blobs import BlobRef
from node.data.disk import full_disk_as_storage_full, is_short
from node.data.layers import Allowance, check_layer
from node.data.manifest import Layer, encode, own_platform
from protocol.values.errors import BlobUnavailable, StorageFull
from protocol.values.ids import Digest

CONFIG_NAME: Final = "config.json"


def docker_name(image: Digest) -> str:
    """Return the name under which the engine knows an image after `docker load`."""
    return f"mutirao:{image.hex()}"


def write_docker_archive(
    name: str, layers: Sequence[tuple[Layer, Path]], target: Path, allowance: Allowance
) -> None:
    """Write the archive; each layer is given with its path. It blocks.

    InvalidRequest if layers are broken or unpack to more than allowed, BlobUnavailable if a blob
    was damaged on disk, StorageFull if the disk is full; then there is no target file.
    """
    for layer, path in layers:  # A layer that occurs twice is unpacked twice.
        check_layer(layer, path, allowance)
    layer_names = [f"{layer.ref.digest.hex()}.tar" for layer, _ in layers]
    listing = encode({"Config": CONFIG_NAME, "RepoTags": [name], "Layers": layer_names})
    # A layer may occur twice in the image, but is once in the archive.
    blobs = [(layer.ref, path) for layer, path in layers]
    parts = dict(zip(layer_names, blobs, strict=True))
    if is_short(target.parent, sum(ref.size for ref, _ in parts.values())):
        raise StorageFull("the disk is too full for the image's archive")
    temporary = target.with_name(f"{target.name}.writing")
    with full_disk_as_storage_full(target.parent), ExitStack() as undo:
        undo.callback(temporary.unlink, missing_ok=True)
        with tarfile.open(temporary, "w", format=tarfile.GNU_FORMAT) as archive:
            for part_name, (ref, path) in parts.items():
                _add_blob(archive, part_name, ref, path)
            _add_bytes(archive, CONFIG_NAME, _config_of([layer for layer, _ in layers]))
            _add_bytes(archive, "manifest.json", b"[" + listing + b"]")
        temporary.replace(target)


def _config_of(layers: Sequence[Layer]) -> bytes:
    """Return the config, without variables, volumes, labels and health check."""
    system, architecture = own_platform().split("/")
    diff_ids = [f"sha256:{layer.diff_id.hex()}" for layer in layers]
    rootfs = {"type": "layers", "diff_ids": diff_ids}
    return encode({"os": system, "architecture": architecture, "rootfs": rootfs})


def _add_bytes(archive: tarfile.TarFile, part_name: str, data: bytes) -> None:
    archive.addfile(_entry(part_name, len(data)), io.BytesIO(data))


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
