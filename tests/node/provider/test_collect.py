"""What an execution left is kept, pinned, and listed in order.

Spec: specs/sandbox.md#outputs.
"""

import os
from pathlib import Path
from typing import Any

import pytest

from node.data.bundle import FILE_BYTES_MAX, FILES_MIN
from node.data.output_manifest import fault_of, read_listing
from node.provider.collect import collect
from node.sandbox.driver import log_path, outputs_path
from protocol.values.errors import InvalidRequest, StorageFull
from protocol.values.ids import digest_of
from tests.node.fixtures import NodeFolder, ref_of


def fill(node_folder: NodeFolder, **files: bytes) -> Path:
    folder = node_folder.run_folder()
    folder.mkdir(parents=True)
    log_path(folder).write_bytes(b"log")
    for name, data in files.items():
        path = outputs_path(folder) / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


async def test_files_of_all_folders_are_listed_by_path(bea: NodeFolder) -> None:
    folder = fill(bea, z=b"1", a__b__c=b"2", a__a=b"", same=b"1")
    ref = await collect(bea.blobs, "owner", folder)
    listing = await read_listing(bea.blobs, ref.digest)
    found = [(file.path, await bea.blobs.read(file.blob.digest)) for file in listing.files]
    assert found == [("a/a", b""), ("a/b/c", b"2"), ("same", b"1"), ("z", b"1")]
    assert listing.log.digest == digest_of(b"log")
    assert bea.blobs._pins["owner"] == {
        ref.digest, digest_of(b"log"), digest_of(b"1"), digest_of(b"2"), digest_of(b""),
    }  # fmt: skip


async def test_what_may_run_is_told_from_the_rest(bea: NodeFolder) -> None:
    folder = fill(bea, tool=b"#!", text=b"x")
    (outputs_path(folder) / "tool").chmod(0o700)
    ref = await collect(bea.blobs, "owner", folder)
    listing = await read_listing(bea.blobs, ref.digest)
    assert [(file.path, file.executable) for file in listing.files] == [
        ("text", False), ("tool", True),
    ]  # fmt: skip


async def test_many_small_files_are_one_blob(bea: NodeFolder) -> None:
    small = {f"d__{number:03}": b"%d" % number for number in range(FILES_MIN)}
    folder = fill(bea, a=bytes(FILE_BYTES_MAX + 1), **small)
    (outputs_path(folder) / "d" / "001").chmod(0o700)
    listing = await read_listing(bea.blobs, (await collect(bea.blobs, "owner", folder)).digest)
    first, *rest = listing.files
    assert (first.path, first.bundled) == ("a", False)
    assert bea.blobs.ref(first.blob.digest)
    assert all(file.bundled for file in rest)
    assert [file.path for file in rest] == sorted(name.replace("__", "/") for name in small)
    assert [file.blob for file in rest] == [ref_of(small[name]) for name in sorted(small)]
    assert [file.path for file in rest if file.executable] == ["d/001"]
    (bundle,) = listing.bundle
    assert await bea.blobs.read(bundle.digest) == b"".join(small[name] for name in sorted(small))
    assert fault_of(listing, await bea.workload()) == ""


async def test_a_job_that_left_nothing(bea: NodeFolder) -> None:
    ref = await collect(bea.blobs, "owner", fill(bea))
    assert (await read_listing(bea.blobs, ref.digest)).files == ()


async def test_a_folder_without_a_log_is_no_execution(bea: NodeFolder) -> None:
    folder = fill(bea)
    log_path(folder).unlink()
    with pytest.raises(InvalidRequest):
        await collect(bea.blobs, "owner", folder)


async def test_all_is_kept_or_nothing(bea: NodeFolder) -> None:
    bea.blobs._budget = 1_500_000
    folder = fill(bea, a=b"a" * 600_000, b=b"b" * 600_000, c=b"c" * 600_000)
    with pytest.raises(StorageFull):
        await collect(bea.blobs, "owner", folder)
    assert bea.blobs.used_bytes() == 0
    bea.blobs._budget = 2_000_000
    await collect(bea.blobs, "owner", folder)


async def test_many_outputs_cost_a_few_commits(
    bea: NodeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits: list[object] = []
    write = bea.journal._database.write

    async def counted(unit: Any) -> Any:
        commits.append(unit)
        return await write(unit)

    monkeypatch.setattr(bea.journal._database, "write", counted)
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    monkeypatch.setattr("node.data.disk.sync_file_system", synced.append)
    folder = fill(bea, **{f"d{number % 7}__{number}": b"%d" % number for number in range(1000)})
    ref = await collect(bea.blobs, "owner", folder)
    assert len((await read_listing(bea.blobs, ref.digest)).files) == 1000
    assert len(commits) == 2
    assert len(synced) <= 8
