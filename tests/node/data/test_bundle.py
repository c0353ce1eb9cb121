"""Many small files travel as one blob; each keeps its digest. Spec: specs/execution.md#bundle."""

from pathlib import Path

import pytest
import trio

from node.data.bundle import FILE_BYTES_MAX, BundleReader, bundle_fault
from node.data.disk import CHUNK
from protocol.values.errors import InvalidRequest
from protocol.values.ids import digest_of
from protocol.wire.job import NO_LOG, BlobRef, FileRef, Outputs
from tests.node.fixtures import ref_of


def small_files(folder: Path, *contents: bytes) -> list[tuple[Path, int]]:
    found = []
    for number, data in enumerate(contents):
        (folder / str(number)).write_bytes(data)
        found.append((folder / str(number), len(data)))
    return found


def test_it_reads_one_file_after_another_and_knows_their_digests(tmp_path: Path) -> None:
    contents = [b"", b"a" * FILE_BYTES_MAX, b"b", b"", *[b"c" * FILE_BYTES_MAX] * 20, b""]
    with BundleReader(small_files(tmp_path, *contents)) as reader:
        pieces = list(iter(lambda: reader.read(CHUNK), b""))
    assert b"".join(pieces) == b"".join(contents)
    assert len(pieces) == 2
    assert max(map(len, pieces)) <= CHUNK
    assert reader.digests == [digest_of(data) for data in contents]


def test_a_file_that_changed_or_went_away(tmp_path: Path) -> None:
    files = small_files(tmp_path, b"a", b"bb")
    (tmp_path / "1").write_bytes(b"b")
    with pytest.raises(InvalidRequest, match="changed while it was read"):
        BundleReader(files).read(CHUNK)
    (tmp_path / "0").unlink()
    with pytest.raises(InvalidRequest, match=r"cannot read .*No such file"):
        BundleReader(files).read(CHUNK)


@pytest.mark.parametrize("data, why", [
    (b"aabbb", ""), (b"aabbx", "other bytes than 'b'"), (b"abbb", "other bytes than 'a'"),
])  # fmt: skip
async def test_each_file_of_a_bundle_is_verified(tmp_path: Path, data: bytes, why: str) -> None:
    (tmp_path / "bundle").write_bytes(data)
    files = (
        FileRef("a", ref_of(b"aa"), bundled=True),
        FileRef("alone", BlobRef(digest_of(b"else"), 100)),
        FileRef("b", ref_of(b"bbb"), bundled=True),
    )
    outputs = Outputs(files, NO_LOG, (ref_of(data),))
    fault = await trio.to_thread.run_sync(bundle_fault, outputs, tmp_path / "bundle")
    assert (why in fault) if why else fault == ""
