"""Debian's docker-registry on a loopback port, and images that are pushed to it.

Spec: specs/overview.md#tests.
"""

import gzip
import io
import json
import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import zstandard

from node.data.manifest import own_platform
from tests.node.registry.hostile_registry import LAYER, MANIFEST, described, sha

PROGRAM = "docker-registry"
MISSING = os.environ.get("MISSING_REGISTRY") or f"there is no {PROGRAM} here"
needs_registry = pytest.mark.skipif(shutil.which(PROGRAM) is None, reason=MISSING)
CONFIG = """version: 0.1
log: {{level: error}}
storage:
  filesystem: {{rootdirectory: {folder}}}
http: {{addr: "127.0.0.1:{port}"}}
"""
PACK = {
    "+gzip": lambda data: gzip.compress(data, 1, mtime=0),
    "+zstd": lambda data: zstandard.ZstdCompressor(3).compress(data),
    "": lambda data: data,
}


class RealRegistry:
    """A registry that answers on `name`."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self._http = httpx.Client(base_url=f"http://{name}/v2", timeout=60)

    def push(
        self, repository: str, layers: list[bytes], packing: str = "+gzip", tag: str = "1", **config
    ) -> str:
        """Push an image of uncompressed tars; return its digest."""
        packed = [(PACK[packing](layer), sha(layer)) for layer in layers]
        return self.push_packed(repository, packed, packing, tag, **config)

    def push_packed(
        self, repository: str, layers: list[tuple[bytes, str]], packing: str, tag: str, **config
    ) -> str:
        """Push an image of packed layers, each with its diff_id; return the image's digest."""
        blobs = [blob for blob, _ in layers]
        written = json.dumps({
            "os": "linux", "architecture": own_platform().split("/")[1], "config": config,
            "rootfs": {"type": "layers", "diff_ids": [diff_id for _, diff_id in layers]},
        }).encode()  # fmt: skip
        for blob in (*blobs, written):
            self._push_blob(repository, blob)
        manifest = json.dumps({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": described(written, "application/vnd.oci.image.config.v1+json"),
            "layers": [described(blob, f"{LAYER}{packing}") for blob in blobs],
        }).encode()  # fmt: skip
        return self.push_manifest(repository, manifest, MANIFEST, tag)

    def push_manifest(self, repository: str, data: bytes, kind: str, tag: str) -> str:
        answer = self._http.put(
            f"/{repository}/manifests/{tag}", content=data, headers={"content-type": kind}
        )
        answer.raise_for_status()
        return sha(data)

    def manifest(self, repository: str, version: str) -> bytes:
        answer = self._http.get(f"/{repository}/manifests/{version}", headers={"accept": MANIFEST})
        return answer.raise_for_status().content

    def _push_blob(self, repository: str, data: bytes) -> None:
        place = self._http.post(f"/{repository}/blobs/uploads/").raise_for_status()
        target = httpx.URL(place.headers["location"]).copy_merge_params({"digest": sha(data)})
        self._http.put(target, content=data).raise_for_status()

    def close(self) -> None:
        self._http.close()


@contextmanager
def running(folder: Path) -> Iterator[RealRegistry]:
    """Run a registry on a free port until the end."""
    with httpx.Client() as probe:
        port = _free_port()
        config = folder / "config.yml"
        config.write_text(CONFIG.format(folder=folder / "data", port=port))
        process = subprocess.Popen(
            [PROGRAM, "serve", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            _wait(probe, f"http://127.0.0.1:{port}/v2/", process)
            registry = RealRegistry(f"127.0.0.1:{port}", folder / "data")
            yield registry
            registry.close()
        finally:
            process.terminate()
            process.wait()


def tar_of(*entries: tuple[str, bytes | str], mode: int = 0o644) -> bytes:
    """Return a layer: data makes a file, a text ending in / a folder, another text a link."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in entries:
            info = tarfile.TarInfo(name)
            info.mode = mode
            if isinstance(content, bytes):
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
                continue
            is_folder = content == "/"
            info.type = tarfile.DIRTYPE if is_folder else tarfile.SYMTYPE
            info.mode, info.linkname = 0o755, "" if is_folder else content
            archive.addfile(info)
    return buffer.getvalue()


def _free_port() -> int:
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def _wait(probe: httpx.Client, url: str, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, "the registry has ended"
        try:
            if probe.get(url).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.02)
    raise AssertionError("the registry does not answer")
