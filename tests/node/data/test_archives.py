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
from protocol.values.errors import BlobUnavailable
from protocol.values.ids import digest_of


def blob(folder: Path, data: bytes) -> tuple[BlobRef, Path]:
    path = folder / digest_of(data).hex()
    path.write_bytes(data)
    return BlobRef(digest_of(data), len(data)), path


def leftovers(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def write(folder: Path, layers: list[tuple[BlobRef, Path]]) -> Path:
    target = folder / "image.tar"
    config = blob(folder, b"{}")
    await trio.to_thread.run_sync(write_docker_archive, "name:tag", config, layers, target)
    return target


async def test_the_archive(tmp_path: Path) -> None:
    first, second = blob(tmp_path, b"first"), blob(tmp_path, b"second")
    with tarfile.open(await write(tmp_path, [first, second, first])) as archive:
        contents = {m.name: archive.extractfile(m).read() for m in archive}
    layers = [f"{ref.digest.hex()}.tar" for ref, _ in (first, second, first)]
    config = f"{digest_of(b'{}').hex()}.json"
    assert json.loads(contents.pop("manifest.json")) == [
        {"Config": config, "RepoTags": ["name:tag"], "Layers": layers}
    ]
    assert contents == {config: b"{}", layers[0]: b"first", layers[1]: b"second"}
    assert docker_name(digest_of(b"x")) == f"mutirao:{digest_of(b'x').hex()}"


@pytest.mark.parametrize("data", [b"wrong", b"cut", b"longer than before"])
async def test_a_damaged_blob_is_not_handed_on(tmp_path: Path, data: bytes) -> None:
    ref, path = blob(tmp_path, b"right")
    path.write_bytes(data)
    with pytest.raises(BlobUnavailable, match="damaged"):
        await write(tmp_path, [(ref, path)])
    assert {file.name for file in leftovers(tmp_path)} == {path.name, digest_of(b"{}").hex()}
