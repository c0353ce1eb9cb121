"""What `docker load` gets: names as the engine wants them, and no damaged byte.

Spec: specs/data.md#docker-archive.
"""

import json
import tarfile
from pathlib import Path

import pytest
import trio

from node.data import archives
from node.data.archives import docker_name, write_docker_archive
from node.data.blobs import BlobRef
from node.data.layers import Allowance
from node.data.manifest import Layer
from protocol.values.errors import BlobUnavailable, InvalidRequest, StorageFull
from protocol.values.ids import digest_of


def layer(folder: Path, data: bytes) -> tuple[Layer, Path]:
    path = folder / digest_of(data).hex()
    path.write_bytes(data)
    ref = BlobRef(digest_of(data), len(data))
    return Layer(ref, "tar", ref.digest), path


def in_folder(folder: Path) -> set[Path]:
    return set(folder.iterdir())


async def write(folder: Path, *layers: tuple[Layer, Path]) -> Path:
    target = folder / "image.tar"
    parts = ("name:tag", layers, target, Allowance())
    await trio.to_thread.run_sync(write_docker_archive, *parts)
    return target


async def test_the_archive(tmp_path: Path, tar) -> None:
    data = [tar(("a", b"first")), tar(("a", b"second"))]
    first, second = (layer(tmp_path, content) for content in data)
    written = await write(tmp_path, first, second, first)
    with tarfile.open(written) as archive:
        contents = {m.name: archive.extractfile(m).read() for m in archive}
    layers = [f"{each.ref.digest.hex()}.tar" for each, _ in (first, second, first)]
    assert json.loads(contents.pop("manifest.json")) == [
        {"Config": "config.json", "RepoTags": ["name:tag"], "Layers": layers}
    ]
    config = json.loads(contents.pop("config.json"))
    assert set(config) == {"os", "architecture", "rootfs"}, "it says nothing of how to run"
    ids = [f"sha256:{digest_of(data[number]).hex()}" for number in (0, 1, 0)]
    assert config["rootfs"] == {"type": "layers", "diff_ids": ids}
    assert contents == {layers[0]: data[0], layers[1]: data[1]}
    assert docker_name(digest_of(b"x")) == f"mutirao:{digest_of(b'x').hex()}"


@pytest.mark.parametrize("data", [b"wrong", b"cut", b"longer than before"])
async def test_a_blob_that_is_damaged_after_it_was_checked_is_not_handed_on(
    tmp_path: Path, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, path = layer(tmp_path, b"right")
    monkeypatch.setattr(archives, "check_layer", lambda *_: path.write_bytes(data))
    with pytest.raises(BlobUnavailable, match="damaged"):
        await write(tmp_path, (right, path))
    assert in_folder(tmp_path) == {path}


async def test_a_damaged_layer_is_not_handed_on(tmp_path: Path, tar) -> None:
    damaged, path = layer(tmp_path, tar(("a", b"right")))
    path.write_bytes(tar(("a", b"wrong")))
    with pytest.raises(InvalidRequest, match="is damaged"):
        await write(tmp_path, (damaged, path))
    assert in_folder(tmp_path) == {path}


async def test_an_archive_that_would_fill_the_disk_is_not_begun(
    tmp_path: Path, tar, monkeypatch
) -> None:
    one, path = layer(tmp_path, tar(("a", b"1")))
    monkeypatch.setattr("node.data.archives.is_short", lambda _, coming: coming >= one.ref.size)
    with pytest.raises(StorageFull, match="too full"):
        await write(tmp_path, (one, path))
    assert in_folder(tmp_path) == {path}
