"""The base image is the same each time, and its Python and shell start in it.

Spec: specs/data.md#base-image.
"""

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import trio

from node.data import base_image
from node.data.base_image import config_of, plan_image, write_layer
from node.data.images import Images
from node.data.manifest import parse_config

DIGEST = """
import sys, tempfile, trio
from node.data.base_image import write_layer
with tempfile.TemporaryFile() as file:
    print(trio.run(trio.to_thread.run_sync, write_layer, file).diff_id.hex())
"""
JOB = """
import ctypes, hashlib, json, sqlite3, ssl, subprocess, sys, multiprocessing
assert json.__cached__.endswith(".pyc") and __import__("os").path.exists(json.__cached__)
assert json.__file__.startswith("/usr/lib")
print(subprocess.check_output(["sh", "-c", "echo shell | cat | wc -c"], text=True))
"""


@pytest.fixture(scope="module")
def layer(tmp_path_factory):
    path = tmp_path_factory.mktemp("layer") / "layer"
    with path.open("w+b") as file:
        return trio.run(trio.to_thread.run_sync, write_layer, file), path


@pytest.mark.slow
def test_it_is_the_same_in_another_process(layer) -> None:
    built, path = layer
    assert built.size == path.stat().st_size
    said = subprocess.check_output(
        [sys.executable, "-c", DIGEST], env={**os.environ, "PYTHONHASHSEED": "7"}, text=True
    )
    assert said.strip() == built.diff_id.hex()


def test_what_is_in_it(layer) -> None:
    with tarfile.open(layer[1]) as archive:
        members = archive.getmembers()
    names = [member.name for member in members]
    assert names == sorted(names)
    assert len(set(names)) == len(names)
    assert all(member.mtime == member.uid == member.gid == 0 for member in members)
    assert {"usr/bin/python3", "usr/bin/sh", "bin", "etc/passwd", "work"} <= set(names)
    assert not [name for name in names if "site-packages" in name or "/test/" in name]
    config = parse_config(config_of(layer[0]))
    assert config.diff_ids == (layer[0].diff_id,)
    assert dict(config.env)["PATH"].split(":")[-1] == "/bin"


def test_it_names_no_folder_of_this_machine() -> None:
    plan = plan_image()
    ours = str(Path(sys.base_prefix)).encode()
    if ours in {b"/usr", b"/usr/local"}:
        pytest.skip("this Python is where the image's is")
    modules = {name: data for name, data in plan.files.items() if isinstance(data, bytes)}
    assert len(modules) > 600
    assert not [name for name, data in modules.items() if ours in data]


@pytest.mark.slow
async def test_its_python_starts(layer, open_blobs, tmp_path: Path, monkeypatch) -> None:
    built, path = layer

    def copied(file: io.BufferedRandom) -> base_image.BuiltLayer:
        file.write(path.read_bytes())
        return built

    monkeypatch.setattr(base_image, "write_layer", copied)
    images = Images(await open_blobs(), tmp_path / "blobs")
    root = await images.unpack(await images.build_base(), tmp_path / "roots")
    if os.geteuid() != 0:
        pytest.skip("only root may chroot; the sandbox's tests run it for all users")
    result = await trio.run_process(
        ["chroot", root, "/usr/bin/python3", "-c", JOB],
        capture_stdout=True,
        capture_stderr=True,
        check=False,
        env={"PATH": "/usr/sbin:/usr/bin:/bin"},
    )
    assert result.stderr == b""
    assert result.stdout.strip() == b"6"
