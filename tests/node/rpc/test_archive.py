"""A job's files as one tar that everybody's tar reads. Spec: specs/rpc.md#routes."""

import io
import tarfile
from pathlib import Path

import pytest

from node.rpc.archive import CHUNK_BYTES, tar_of
from node.rpc.job_views import OutputView
from protocol.values.errors import BlobUnavailable

LONG = "/".join(["é" * 80] * 6)


def left(folder: Path, path: str, data: bytes, *, executable: bool = False) -> tuple:
    location = folder / str(len(list(folder.iterdir())))
    location.write_bytes(data)
    return OutputView(path, len(data), "", executable), location


async def test_names_sizes_and_modes(tmp_path: Path) -> None:
    big = bytes(range(256)) * (CHUNK_BYTES // 100)
    contents = {"a": b"1", LONG: b"long", "d/empty": b"", "d/big": big, "z": b"2"}
    files = [left(tmp_path, name, data, executable=name == "a") for name, data in contents.items()]
    pieces = [piece async for piece in tar_of(files)]
    assert len(pieces) <= len(big) // CHUNK_BYTES + 2  # Small files travel together.
    with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as archive:
        members = archive.getmembers()
        assert {m.name: archive.extractfile(m).read() for m in members} == contents
    assert [member.name for member in members] == list(contents)
    assert [member.mode for member in members] == [0o755, *[0o644] * 4]


async def test_of_no_files(tmp_path: Path) -> None:
    pieces = [piece async for piece in tar_of([])]
    with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as archive:
        assert archive.getnames() == []


async def test_a_file_that_has_gone(tmp_path: Path) -> None:
    output, location = left(tmp_path, "a", b"1")
    location.unlink()
    with pytest.raises(BlobUnavailable):
        [piece async for piece in tar_of([(output, location)])]
