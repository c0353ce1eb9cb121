"""What an execution left is kept, pinned, and listed in order.

Spec: specs/sandbox.md#outputs.
"""

import os
from pathlib import Path
from typing import Any

import pytest

from node.data.output_manifest import fault_of, read_listing
from node.provider.collect import collect, collect_checkpoint
from node.sandbox.driver import discard_outputs, log_path, outputs_path
from node.sandbox.runner import collect as runner_collect
from node.sandbox.runner.bundle import ALONE_MAX
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
    contents = {f"d/{number:03}": b"%d" % number for number in range(ALONE_MAX)}
    contents |= {"d.x": b"", "d/z/1": b"one", "d/z-": b"", "e": b"two", "large": bytes(70_000)}
    folder = bundled_by_the_sandbox(bea, contents)
    listing = await read_listing(bea.blobs, (await collect(bea.blobs, "owner", folder)).digest)
    assert {file.path: file.blob for file in listing.files} == {
        path: ref_of(data) for path, data in contents.items()
    }
    small = [file for file in listing.files if file.bundled]
    assert [file.path for file in small] == ["d/z/1", "d/z-", "d.x", "e"]
    assert [file.path for file in small if file.executable] == ["e"]
    (bundle,) = listing.bundle
    assert await bea.blobs.read(bundle.digest) == b"onetwo"
    assert fault_of(listing, await bea.workload()) == ""


def bundled_by_the_sandbox(bea: NodeFolder, contents: dict[str, bytes]) -> Path:
    """Return a run folder whose outputs the runner collected; "e" may run."""
    folder, source = fill(bea), bea.folder / "out"
    for name, data in contents.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(data)
    (source / "e").chmod(0o700)
    handle = os.open(source, os.O_RDONLY | os.O_DIRECTORY)
    assert not runner_collect.collect(handle, str(outputs_path(folder)), 2**20).refused
    os.close(handle)
    return folder


async def test_a_last_checkpoint_may_be_in_the_bundle(bea: NodeFolder) -> None:
    contents = {f"a/{number:03}": b"%d" % number for number in range(ALONE_MAX)}
    contents |= {"state/1": b"one", "state/2": b"two", "e": b"other", "state-": b"no"}
    folder = bundled_by_the_sandbox(bea, contents)
    ref, size = await collect_checkpoint(bea.blobs, "owner", folder, "state")
    listing = await read_listing(bea.blobs, ref.digest)
    found = [(file.path, await bea.blobs.read(file.blob.digest)) for file in listing.files]
    assert (found, size) == ([("state/1", b"one"), ("state/2", b"two")], 6)
    assert not listing.bundle
    discard_outputs(folder)
    assert [path.name for path in folder.iterdir()] == ["log"]


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
