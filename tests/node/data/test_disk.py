"""A file is final only when it is whole, and a full disk has one name.

Spec: specs/data.md#on-disk.
"""

import errno
import io
import os
from pathlib import Path

import pytest
import trio

from node.data.disk import (
    SYNCED_ONE_BY_ONE_MAX,
    copy_hashed,
    create_private,
    full_disk_as_storage_full,
    is_short,
    make_final,
    open_regular,
)
from protocol.values.errors import InvalidRequest, StorageFull
from protocol.values.ids import digest_of


async def test_copy_hashes_and_bounds() -> None:
    target = io.BytesIO()
    copied = await trio.to_thread.run_sync(copy_hashed, io.BytesIO(b"data"), target, 4)
    assert copied == (digest_of(b"data"), 4)
    assert target.getvalue() == b"data"
    with pytest.raises(InvalidRequest, match="grew beyond 3 bytes"):
        await trio.to_thread.run_sync(copy_hashed, io.BytesIO(b"data"), target, 3)


def test_final_files_are_read_only(tmp_path: Path) -> None:
    with create_private(tmp_path / "t") as file:
        file.write(b"x")
        assert os.fstat(file.fileno()).st_mode & 0o777 == 0o600
    make_final([(tmp_path / "t", tmp_path / "folder" / "f")])
    assert (tmp_path / "folder" / "f").read_bytes() == b"x"
    assert (tmp_path / "folder" / "f").stat().st_mode & 0o777 == 0o400
    assert not (tmp_path / "t").exists()
    with pytest.raises(FileExistsError):
        create_private(tmp_path / "folder" / "f")


@pytest.mark.parametrize("count", [1, 3, SYNCED_ONE_BY_ONE_MAX + 1, 1000])
def test_no_file_has_its_final_name_before_its_bytes_are_on_the_disk(
    tmp_path: Path, monkeypatch, count: int
) -> None:
    """What a power cut leaves: only what was synced, and the names that came after it."""
    moves = [(tmp_path / f"t{n}", tmp_path / f"{n % 8}" / f"f{n}") for n in range(count)]
    for temporary, _ in moves:
        temporary.write_bytes(b"x")
    synced: list[set[Path]] = []

    def note(handle: int) -> None:
        where = Path(f"/proc/self/fd/{handle}").readlink()
        named = {final for _, final in moves if final.exists()}
        synced.append(named if where.is_file() else {where})

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr("node.data.disk.sync_file_system", note)
    make_final(moves)
    assert all(final.read_bytes() == b"x" for _, final in moves)
    files = count if count <= SYNCED_ONE_BY_ONE_MAX else 1
    assert synced[:files] == [set()] * files  # The bytes of all come before the first name.
    folders = {tmp_path, *(final.parent for _, final in moves)}
    assert set().union(*synced[files:]) == folders
    assert len(synced) <= 2 * SYNCED_ONE_BY_ONE_MAX


@pytest.mark.parametrize(
    "blocks, free, inodes_free, short",
    [
        (2**40 // 4096, 2**30 // 4096, 500, False),  # A large disk: 1 GiB is enough.
        (2**40 // 4096, 2**30 // 4096 - 1, 500, True),
        (100, 10, 500, False),  # A small one: a tenth of it.
        (100, 9, 500, True),
        (100, 90, 99, True),
    ],
)
def test_a_disk_is_short_below_a_floor(
    tmp_path: Path, monkeypatch, blocks: int, free: int, inodes_free: int, short: bool
) -> None:
    numbers = (4096, 4096, blocks, free, free, 1000, inodes_free, inodes_free, 0, 255)
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(numbers))
    assert is_short(tmp_path) == short
    assert is_short(tmp_path, 4096 * free)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_no_space_is_storage_full(tmp_path: Path, number: int) -> None:
    with pytest.raises(StorageFull), full_disk_as_storage_full(tmp_path):
        raise OSError(number, "full")


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="broken"), full_disk_as_storage_full(tmp_path):
        raise OSError(errno.EIO, "broken")


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x")
    with open_regular(tmp_path / "f") as file:
        assert file.read() == b"x"
    with pytest.raises(InvalidRequest, match="not a regular file"):
        open_regular(Path("/dev/null"))
