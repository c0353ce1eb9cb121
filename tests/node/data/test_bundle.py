"""Many small files travel as one blob; each keeps its digest. Spec: specs/execution.md#bundle."""

from pathlib import Path

import pytest
import trio

from node.data.bundle import BundleReader, bundle_fault
from node.data.disk import CHUNK
from protocol.values.errors import InvalidRequest
from protocol.values.ids import digest_of
from protocol.wire.job import NO_LOG, BlobRef, FileRef, Outputs
from tests.node.fixtures import ref_of


def test_it_knows_the_digests_of_its_parts(tmp_path: Path) -> None:
    parts = [b"", b"a" * 65_536, b"b", b"", *[b"c" * 65_536] * 20, b""]
    (tmp_path / "bundle").write_bytes(b"".join(parts))
    with BundleReader(tmp_path / "bundle", [len(part) for part in parts]) as reader:
        pieces = list(iter(lambda: reader.read(CHUNK), b""))
    assert b"".join(pieces) == b"".join(parts)
    assert max(map(len, pieces)) <= CHUNK
    assert len(pieces) == 6
    assert reader.digests == [digest_of(part) for part in parts]


def test_a_bundle_that_is_too_short_or_missing(tmp_path: Path) -> None:
    (tmp_path / "bundle").write_bytes(b"aa")
    with pytest.raises(InvalidRequest, match="too short"):
        BundleReader(tmp_path / "bundle", [1, 2]).read(CHUNK)
    with pytest.raises(InvalidRequest, match="No such file"):
        BundleReader(tmp_path / "none", [1]).read(CHUNK)


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
