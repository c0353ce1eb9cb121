"""Unpacked images do not pile up, and none goes that is used.

Spec: specs/execution.md#executions.
"""

import os
from pathlib import Path

import pytest

from node.daemon import roots
from node.daemon.roots import note_use, sweep_roots
from protocol.values.ids import Digest, digest_of


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Digest]:
    """Four unpacked images, the oldest first; two may stay."""
    monkeypatch.setattr(roots, "ROOTS_MAX", 2)
    monkeypatch.setattr(roots, "FREE_BYTES_MIN", 0)
    digests = [digest_of(bytes([number])) for number in range(4)]
    for number, digest in enumerate(digests):
        root = tmp_path / digest.hex()
        (root / "bin").mkdir(parents=True)
        (root / "bin" / "sh").write_bytes(b"")
        (root / "bin").chmod(0o555)
        os.utime(root, (number, number))
    return digests


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


async def test_the_least_recently_used_go(tmp_path: Path, images: list[Digest]) -> None:
    note_use(tmp_path / images[0].hex())
    await sweep_roots(tmp_path, lambda image: False)
    assert left(tmp_path) == {images[0].hex(), images[3].hex()}


async def test_what_is_used_stays(tmp_path: Path, images: list[Digest]) -> None:
    await sweep_roots(tmp_path, lambda image: image in images[:3])
    assert left(tmp_path) == {image.hex() for image in images[:3]}


async def test_a_full_disk_keeps_none_that_is_not_used(
    tmp_path: Path, images: list[Digest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roots, "FREE_BYTES_MIN", 2**60)
    await sweep_roots(tmp_path, lambda image: image == images[1])
    assert left(tmp_path) == {images[1].hex()}


async def test_what_an_earlier_sweep_left_goes_and_what_is_being_unpacked_stays(
    tmp_path: Path, images: list[Digest]
) -> None:
    (tmp_path / "leaving-1" / "x").mkdir(parents=True)
    unpacking = tmp_path / f"{digest_of(b'new').hex()}.unpacking"
    unpacking.mkdir()
    await sweep_roots(tmp_path, lambda image: True)
    assert left(tmp_path) == {*(image.hex() for image in images), unpacking.name}


def test_use_of_what_is_not_there(tmp_path: Path) -> None:
    note_use(tmp_path / "nothing")
