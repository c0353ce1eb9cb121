"""Images come in from what engines write, old and new, and from nothing else.

Spec: specs/data.md#import.
"""

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from node.data.imports import import_image
from node.data.manifest import own_platform
from protocol.values.errors import InvalidRequest

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def described(data: bytes, kind: str, **more) -> dict:
    return {"mediaType": kind, "digest": f"sha256:{sha(data)}", "size": len(data), **more}


def image_files(layer: bytes, arch: str = "amd64") -> tuple[dict[str, bytes], bytes]:
    """Return the blobs of an OCI image by their names, and its manifest."""
    config = json.dumps(
        {"architecture": arch, "rootfs": {"diff_ids": [f"sha256:{sha(layer)}"]}}
    ).encode()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "config": described(config, "c"),
            "layers": [described(layer, LAYER_TYPE)],
        }
    ).encode()
    return {f"blobs/sha256/{sha(d)}": d for d in (layer, config, manifest)}, manifest


def layout(files: dict[str, bytes], *manifests: dict) -> dict[str, bytes]:
    index = json.dumps({"schemaVersion": 2, "manifests": manifests}).encode()
    return {**files, "oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": index}


def written(path: Path, files: dict[str, bytes], links: dict[str, str] | None = None) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
    return path


def unfolded(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
async def blobs(open_blobs):
    return await open_blobs()


@pytest.mark.parametrize("form", [written, unfolded])
async def test_an_oci_layout(blobs, tmp_path: Path, form) -> None:
    files, manifest = image_files(b"layer")
    name = {"annotations": {"org.opencontainers.image.ref.name": "v1"}}
    path = form(tmp_path / "image", layout(files, described(manifest, MANIFEST_TYPE, **name)))
    imported = await import_image(blobs, path)
    assert imported.digest.hex() == sha(manifest)
    assert imported.names == ("v1",)
    for data in files.values():
        assert await blobs.read(bytes.fromhex(sha(data))) == data
    again = await import_image(blobs, path)
    assert again == imported


async def test_an_index_of_several_platforms(blobs, tmp_path: Path) -> None:
    system, arch = own_platform().split("/")
    ours, manifest = image_files(b"ours", arch)
    other, other_manifest = image_files(b"other", "s390x")
    inner = json.dumps(
        {
            "manifests": [
                described(data, MANIFEST_TYPE, platform={"os": system, "architecture": arch})
                for data, arch in ((other_manifest, "s390x"), (manifest, arch))
            ]
        }
    ).encode()
    files = {**ours, **other, f"blobs/sha256/{sha(inner)}": inner}
    path = written(tmp_path / "image", layout(files, described(inner, INDEX_TYPE)))
    assert (await import_image(blobs, path)).digest.hex() == sha(manifest)
    only = json.dumps(
        {"manifests": [described(other_manifest, MANIFEST_TYPE, platform={"os": "plan9"})]}
    ).encode()
    files = {**other, f"blobs/sha256/{sha(only)}": only}
    path = written(tmp_path / "foreign", layout(files, described(only, INDEX_TYPE)))
    with pytest.raises(InvalidRequest, match=f"no variant for {own_platform()}"):
        await import_image(blobs, path)


async def test_an_image_whose_manifest_says_a_wrong_size(blobs, tmp_path: Path) -> None:
    layer = b"layer"
    files, manifest = image_files(layer)
    del files[f"blobs/sha256/{sha(manifest)}"]
    document = json.loads(manifest)
    document["layers"][0]["size"] += 1
    manifest = json.dumps(document).encode()
    files[f"blobs/sha256/{sha(manifest)}"] = manifest
    path = written(tmp_path / "image", layout(files, described(manifest, MANIFEST_TYPE)))
    with pytest.raises(InvalidRequest, match="has 5 bytes, its manifest says 6"):
        await import_image(blobs, path)


@pytest.mark.parametrize("packed", [False, True])
async def test_docker_save_of_an_old_engine(blobs, tmp_path: Path, packed: bool) -> None:
    raw = b"layer" * 100
    layer = gzip.compress(raw, mtime=0) if packed else raw
    config = json.dumps({"rootfs": {"diff_ids": [f"sha256:{sha(raw)}"] * 2}}).encode()
    listing = [
        {"Config": "c.json", "RepoTags": ["a:1", 7], "Layers": ["1/layer.tar", "2/layer.tar"]}
    ]
    files = {"c.json": config, "1/layer.tar": layer, "manifest.json": json.dumps(listing).encode()}
    path = written(tmp_path / "image", files, {"2/layer.tar": "../1/layer.tar"})
    first = await import_image(blobs, path)
    assert first.names == ("a:1",)
    manifest = json.loads(await blobs.read(first.digest))
    kind = f"{LAYER_TYPE}+gzip" if packed else LAYER_TYPE
    assert manifest["layers"] == [described(layer, kind)] * 2
    assert manifest["config"]["digest"] == f"sha256:{sha(config)}"
    assert await import_image(blobs, path) == first


def docker_listing(*entries) -> dict[str, bytes]:
    config = json.dumps({"rootfs": {"diff_ids": []}}).encode()
    return {"c.json": config, "manifest.json": json.dumps(list(entries)).encode()}


ENTRY = {"Config": "c.json", "Layers": []}
FILES, MANIFEST = image_files(b"layer")
GOOD = layout(FILES, described(MANIFEST, MANIFEST_TYPE))
LAYER_NAME = f"blobs/sha256/{sha(b'layer')}"
REFUSED = {
    "neither index.json nor manifest.json": {"x": b""},
    "several images": docker_listing(ENTRY, ENTRY),
    "malformed manifest.json": docker_listing({"Config": 1, "Layers": []}),
    "is missing": docker_listing({"Config": "nowhere", "Layers": []}),
    "'nolayer' is missing": docker_listing({"Config": "c.json", "Layers": ["nolayer"]}),
    "without a name": docker_listing({"Config": "c.json", "Layers": [7]}),
    "disagree": docker_listing({"Config": "c.json", "Layers": ["c.json"]}),
    "is not JSON": {"index.json": b"{"},
    "not hold exactly one": layout({}),
    "is damaged": {**GOOD, LAYER_NAME: b"other"},
    "grew|damaged": {**GOOD, LAYER_NAME: b"longer than it was"},
    f"{LAYER_NAME}' is missing": {k: v for k, v in GOOD.items() if k != LAYER_NAME},
    "has 2000000 bytes": {"index.json": b" " * 2_000_000},
    "malformed digest": layout({}, {"mediaType": "x", "digest": "../../etc/passwd", "size": 1}),
}


@pytest.mark.parametrize("form", [written, unfolded])
@pytest.mark.parametrize("line", REFUSED)
async def test_refused(blobs, tmp_path: Path, line: str, form) -> None:
    with pytest.raises(InvalidRequest, match=line) as caught:
        await import_image(blobs, form(tmp_path / "image", REFUSED[line]))
    assert "\n" not in str(caught.value)
    assert not blobs._pins


async def test_files_that_are_no_archive(blobs, tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(gzip.compress(b"x"))
    with pytest.raises(InvalidRequest, match="gunzip"):
        await import_image(blobs, path)
    path.write_bytes(b"no archive" * 100)
    with pytest.raises(InvalidRequest, match="not a tar archive"):
        await import_image(blobs, path)
    with pytest.raises(InvalidRequest, match="cannot read"):
        await import_image(blobs, tmp_path / "absent")
    whole = written(tmp_path / "whole", GOOD).read_bytes()
    path.write_bytes(whole[:1200])
    with pytest.raises(InvalidRequest):
        await import_image(blobs, path)
