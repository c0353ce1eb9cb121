"""What `docker load` gets: names as the engine wants them, and no damaged byte.

Spec: specs/data.md#docker-archive.
"""

import json
import tarfile
from pathlib import Path

import pytest
import trio

from node.data.archives import docker_name, write_docker_archive
from node.data.blobs import BlobRef
from node.data.layers import Allowance
from node.data.manifest import Layer
from protocol.values.errors import BlobUnavailable, InvalidRequest
from protocol.values.ids import digest_of


def blob(folder: Path, data: bytes) -> tuple[BlobRef, Path]:
    path = folder / digest_of(data).hex()
    path.write_bytes(data)
    return BlobRef(digest_of(data), len(data)), path


def layer(folder: Path, data: bytes) -> tuple[Layer, Path]:
    ref, path = blob(folder, data)
    return Layer(ref, "tar", ref.digest), path


def in_folder(folder: Path) -> set[Path]:
    return set(folder.iterdir())


async def write(folder: Path, config: tuple[BlobRef, Path], *layers: tuple[Layer, Path]) -> Path:
    target = folder / "image.tar"
    parts = ("name:tag", config, layers, target, Allowance())
    await trio.to_thread.run_sync(write_docker_archive, *parts)
    return target


async def test_the_archive(tmp_path: Path, tar) -> None:
    data = [tar(("a", b"first")), tar(("a", b"second"))]
    first, second = (layer(tmp_path, content) for content in data)
    written = await write(tmp_path, blob(tmp_path, b"{}"), first, second, first)
    with tarfile.open(written) as archive:
        contents = {m.name: archive.extractfile(m).read() for m in archive}
    layers = [f"{each.ref.digest.hex()}.tar" for each, _ in (first, second, first)]
    config = f"{digest_of(b'{}').hex()}.json"
    assert json.loads(contents.pop("manifest.json")) == [
        {"Config": config, "RepoTags": ["name:tag"], "Layers": layers}
    ]
    assert contents == {config: b"{}", layers[0]: data[0], layers[1]: data[1]}
    assert docker_name(digest_of(b"x")) == f"mutirao:{digest_of(b'x').hex()}"


@pytest.mark.parametrize("data", [b"wrong", b"cut", b"longer than before"])
async def test_a_damaged_blob_is_not_handed_on(tmp_path: Path, data: bytes) -> None:
    ref, path = blob(tmp_path, b"right")
    path.write_bytes(data)
    with pytest.raises(BlobUnavailable, match="damaged"):
        await write(tmp_path, (ref, path))
    assert in_folder(tmp_path) == {path}


async def test_a_damaged_layer_is_not_handed_on(tmp_path: Path, tar) -> None:
    damaged, path = layer(tmp_path, tar(("a", b"right")))
    path.write_bytes(tar(("a", b"wrong")))
    config = blob(tmp_path, b"{}")
    with pytest.raises(InvalidRequest, match="is damaged"):
        await write(tmp_path, config, (damaged, path))
    assert in_folder(tmp_path) == {path, config[1]}
