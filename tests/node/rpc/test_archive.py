"""A job's files as one tar that everybody's tar reads. Spec: specs/rpc.md#routes."""

import io
import tarfile
from pathlib import Path

import pytest

from node.rpc.archive import CHUNK_BYTES, bytes_of, tar_of
from node.rpc.job_views import OutputView
from node.rpc.service import StoredOutput
from protocol.values.errors import BlobUnavailable

LONG = "/".join(["é" * 80] * 6)


def left(folder: Path, path: str, data: bytes, *, executable: bool = False) -> StoredOutput:
    location = folder / str(len(list(folder.iterdir())))
    location.write_bytes(data)
    return StoredOutput(OutputView(path, len(data), "", executable), location)


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
    output = left(tmp_path, "a", b"1")
    output.place.unlink()
    for pieces in (tar_of([output]), bytes_of(output)):
        with pytest.raises(BlobUnavailable, match="No such file"):
            [piece async for piece in pieces]


async def test_parts_of_a_bundle(tmp_path: Path) -> None:
    bundle = left(tmp_path, "", b"oneotherthree").place
    files = [
        StoredOutput(OutputView("1", 3, ""), bundle),
        left(tmp_path, "2", b"two"),
        StoredOutput(OutputView("3", 5, ""), bundle, 8),
        StoredOutput(OutputView("4", 0, ""), bundle, 13),
    ]
    data = b"".join([piece async for piece in tar_of(files)])
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        found = {m.name: archive.extractfile(m).read() for m in archive.getmembers()}
    assert found == {"1": b"one", "2": b"two", "3": b"three", "4": b""}
    assert [piece async for piece in bytes_of(files[2])] == [b"three"]
