"""The blob folder keeps whole blobs only, within its budget, across crashes.

Spec: specs/data.md#on-disk.
"""

import errno
import io
import os
import stat
import subprocess
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from node.data.blobs import BlobRef, Blobs, BlobSource
from node.data.disk import open_regular
from protocol.values.errors import BlobUnavailable, InvalidRequest, StorageFull
from protocol.values.ids import digest_of

MIB = 1024 * 1024


async def test_a_file_is_kept_by_its_digest(tmp_path: Path, index) -> None:
    blobs = Blobs(tmp_path / "blobs", index, 64)
    await blobs.reconcile()
    source = tmp_path / "source"
    source.write_bytes(os.urandom(3 * MIB + 5))
    ref = await blobs.put_file(source, "input")
    data = source.read_bytes()
    assert ref.digest == digest_of(data)
    assert ref.size == len(data)
    name = ref.digest.hex()
    path = tmp_path / "blobs" / "sha256" / name[:2] / name
    assert blobs.path(ref.digest) == path
    assert path.read_bytes() == data
    assert stat.S_IMODE(path.stat().st_mode) == 0o400
    assert index.rows == {ref.digest: (len(data), "input")}
    assert not list((tmp_path / "blobs" / "incoming").iterdir())


async def test_a_blob_does_not_change_with_its_source(tmp_path: Path, open_blobs) -> None:
    blobs = await open_blobs()
    source = tmp_path / "source"
    source.write_bytes(b"before")
    ref = await blobs.put_file(source, "input")
    source.write_bytes(b"after!")
    assert await blobs.read(ref.digest) == b"before"


async def test_the_same_bytes_are_one_blob(open_blobs) -> None:
    blobs = await open_blobs()
    first = await blobs.put_bytes(b"x", "image")
    assert await blobs.put_bytes(b"x", "output") == first
    assert blobs.used_bytes() == 1
    assert blobs.of_kind("image") == (first,)  # Once of an image, always.


@pytest.mark.parametrize("what", ["missing", "folder", "fifo"])
async def test_only_a_readable_file_is_put(tmp_path: Path, open_blobs, what: str) -> None:
    blobs = await open_blobs()
    if what == "folder":
        (tmp_path / what).mkdir()
    if what == "fifo":
        os.mkfifo(tmp_path / what)
    with pytest.raises(InvalidRequest, match="cannot read"):
        await blobs.put_file(tmp_path / what, "input")


async def test_absent_too_long_and_damaged_blobs_are_not_read(open_blobs) -> None:
    blobs = await open_blobs()
    with pytest.raises(BlobUnavailable, match="not here"):
        await blobs.read(digest_of(b"nowhere"))
    ref = await blobs.put_bytes(b"12345", "log")
    with pytest.raises(InvalidRequest, match="more than 4 bytes"):
        await blobs.read(ref.digest, limit=4)
    path = blobs.path(ref.digest)
    path.chmod(0o600)
    path.write_bytes(b"12346")
    with pytest.raises(BlobUnavailable, match="damaged"):
        await blobs.read(ref.digest)
    assert blobs.path(ref.digest) is None
    assert not path.exists()


async def test_a_blob_removed_by_hand_is_absent(open_blobs) -> None:
    blobs = await open_blobs()
    ref = await blobs.put_bytes(b"x", "log")
    blobs.path(ref.digest).unlink()
    assert blobs.path(ref.digest) is None
    assert blobs.ref(ref.digest) is None


async def test_a_wrong_digest_leaves_nothing(tmp_path: Path, open_blobs) -> None:
    blobs = await open_blobs()
    with pytest.raises(InvalidRequest, match="damaged"):
        await blobs.put_stream(io.BytesIO(b"x"), 1, "image", expected=digest_of(b"y"))
    with pytest.raises(InvalidRequest, match="grew"):
        await blobs.put_stream(io.BytesIO(b"xx"), 1, "image")
    assert blobs.used_bytes() == 0
    assert not [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]


async def test_the_oldest_unpinned_blob_goes_first(open_blobs) -> None:
    blobs = await open_blobs(budget_mib=3)
    first, second, third = [await blobs.put_bytes(bytes([n]) * MIB, "input") for n in range(3)]
    blobs.pin("job", first.digest)
    blobs.path(second.digest)  # Used: now the third is the oldest.
    fourth = await blobs.put_bytes(b"4" * MIB, "input")
    assert [blobs.ref(ref.digest) is not None for ref in (first, second, third, fourth)] == [
        True,
        True,
        False,
        True,
    ]
    blobs.pin("job", second.digest, fourth.digest)
    with pytest.raises(StorageFull, match=r"storage\.blobs_mib"):
        await blobs.put_bytes(b"5" * MIB, "input")
    blobs.unpin("job")
    await blobs.put_bytes(b"5" * MIB, "input")
    assert blobs.used_bytes() == 3 * MIB


async def test_room_that_is_promised_is_not_given_twice(open_blobs) -> None:
    blobs = await open_blobs(budget_mib=2)
    async with blobs.room(2 * MIB):
        with pytest.raises(StorageFull):
            await blobs.put_bytes(b"x", "log")
    await blobs.put_bytes(b"x", "log")


def sources(*contents: bytes, kind: str = "output") -> list[BlobSource]:
    return [BlobSource(partial(io.BytesIO, data), len(data), kind) for data in contents]


async def test_many_are_put_at_the_cost_of_a_few(tmp_path: Path, index, monkeypatch) -> None:
    blobs = Blobs(tmp_path, index, 64)
    await blobs.reconcile()
    known = await blobs.put_bytes(b"7", "image")
    synced: list[int] = []
    recorded: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    monkeypatch.setattr("node.data.disk.sync_file_system", synced.append)
    monkeypatch.setattr(index, "record_blobs", _counting(recorded, index.record_blobs))
    contents = [str(number).encode() for number in range(500)]
    refs = await blobs.put_all(sources(*contents, b"7"), "job")
    assert refs == tuple(BlobRef(digest_of(data), len(data)) for data in (*contents, b"7"))
    assert [await blobs.read(ref.digest) for ref in refs] == [*contents, b"7"]
    assert blobs.of_kind("image") == (known,)
    assert blobs._pins["job"] == {ref.digest for ref in refs}
    assert len(synced) <= 2
    assert recorded == [499]  # In one transaction.
    assert blobs.used_bytes() == sum(map(len, contents))
    assert not list((tmp_path / "incoming").iterdir())
    assert len(index.rows) == 500


def _counting(counts: list[int], record: Callable[[Any], Awaitable[None]]) -> Any:
    async def counted(rows: Any) -> None:
        counts.append(len(rows))
        await record(rows)

    return counted


async def test_all_of_many_are_put_or_none(tmp_path: Path, open_blobs) -> None:
    blobs = await open_blobs()
    grows = BlobSource(partial(io.BytesIO, b"xx"), 1, "output")
    missing = BlobSource(partial(open_regular, tmp_path / "missing"), 1, "output")
    for bad, why in ((grows, "grew"), (missing, "cannot read")):
        with pytest.raises(InvalidRequest, match=why):
            await blobs.put_all([*sources(b"1"), bad], "job")
    with pytest.raises(StorageFull):
        await blobs.put_all([*sources(b"1"), BlobSource(io.BytesIO, 2**40, "output")], "job")
    assert blobs.used_bytes() == 0
    assert not [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]


async def test_small_blobs_do_not_pile_up(open_blobs, monkeypatch) -> None:
    monkeypatch.setattr("node.data.blobs.BLOBS_MAX", 5)
    blobs = await open_blobs()
    await blobs.put_all(sources(*(bytes([n]) for n in range(4))), "job")
    blobs.unpin("job")
    blobs.pin("other", digest_of(b"\0"))
    await blobs.put_all(sources(b"a", b"b", b"c"), "job")
    kept = [b"\0", b"\3", b"a", b"b", b"c"]
    assert [ref.digest for ref in blobs.of_kind("output")] == [digest_of(data) for data in kept]
    await blobs.put_all(sources(b"d", b"e", b"f"), "job")  # All are pinned: bytes bound them.
    assert len(blobs.of_kind("output")) == 7


async def test_nothing_goes_for_what_cannot_fit_though_there_are_many(
    open_blobs, monkeypatch
) -> None:
    monkeypatch.setattr("node.data.blobs.BLOBS_MAX", 2)
    blobs = await open_blobs(budget_mib=64)
    await blobs.put_all(sources(b"a", b"b"), "job")
    blobs.unpin("job")
    with pytest.raises(StorageFull):
        async with blobs.room(65 * 1024**2):
            pytest.fail("there is no room")
    assert len(blobs.of_kind("output")) == 2


async def test_the_disk_is_believed_at_the_start(tmp_path: Path, index) -> None:
    blobs = Blobs(tmp_path, index, 64)
    await blobs.reconcile()
    kept = await blobs.put_bytes(b"kept", "image")
    lost = await blobs.put_bytes(b"lost", "input")
    unrecorded = await blobs.put_bytes(b"unrecorded", "output")
    blobs.path(lost.digest).unlink()
    await index.forget_blobs([unrecorded.digest])
    incoming = tmp_path / "incoming"
    resumable = incoming / f"{digest_of(b'big').hex()}.partial"
    stale = incoming / f"{digest_of(b'old').hex()}.partial"
    torn = incoming / "0123.tmp"
    for path in (resumable, stale, torn):
        path.write_bytes(b"half")
    os.utime(stale, (1, 1))

    again = Blobs(tmp_path, index, 64)
    await again.reconcile()
    assert index.rows == {kept.digest: (4, "image"), unrecorded.digest: (10, "input")}
    assert again.ref(lost.digest) is None
    assert await again.read(unrecorded.digest) == b"unrecorded"
    assert [resumable.exists(), stale.exists(), torn.exists()] == [True, False, False]
    assert again.used_bytes() == 4 + 10 + 4


async def test_interrupted_transfers_make_room_first(open_blobs, tmp_path: Path) -> None:
    blobs = await open_blobs(budget_mib=1)
    async with blobs.partial(digest_of(b"big"), MIB) as path:
        path.write_bytes(b"h" * (MIB // 2))
    kept = await blobs.put_bytes(b"k" * (MIB // 2), "input")
    assert path.exists()
    await blobs.put_bytes(b"l" * (MIB // 2), "input")
    assert not path.exists()
    assert blobs.ref(kept.digest) is not None


async def test_cancelling_leaves_nothing(tmp_path: Path, open_blobs) -> None:
    blobs = await open_blobs(budget_mib=10_000)

    class Endless:
        def read(self, size: int) -> bytes:
            return bytes(1024)

    with trio.move_on_after(0.05):
        await blobs.put_stream(Endless(), 2**33, "input")
    assert blobs.used_bytes() == 0
    assert not [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]


FULL_DISK = """
import resource, sys, trio
from pathlib import Path
from node.data.blobs import Blobs
from protocol.values.errors import StorageFull
class Index:
    async def record_blobs(self, *_): ...
    async def forget_blobs(self, *_): ...
    async def known_blobs(self): return ()
async def main():
    blobs = Blobs(Path(sys.argv[1]), Index(), 64)
    await blobs.reconcile()
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    try:
        await blobs.put_bytes(bytes(2 << 20), "input")
    except StorageFull as error:
        print(error)
    await blobs.put_bytes(b"small", "input")
    print(blobs.used_bytes(), [p.name for p in Path(sys.argv[1]).glob("incoming/*")])
trio.run(main)
"""


def test_a_full_disk_is_storage_full(tmp_path: Path) -> None:
    """RLIMIT_FSIZE stands for the disk; it needs a process of its own."""
    result = subprocess.run(
        [sys.executable, "-c", FULL_DISK, tmp_path], capture_output=True, text=True, check=True
    )
    said, after = result.stdout.splitlines()
    assert "is full: free some space" in said
    assert after == "5 []"


@pytest.mark.parametrize("is_possible", [True, False])
async def test_a_file_of_ours_is_not_copied_where_links_are_possible(
    open_blobs, tmp_path: Path, monkeypatch, is_possible: bool
) -> None:
    def refuse(*_args, **_more) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    blobs = await open_blobs()
    place = tmp_path / "collected"
    place.write_bytes(b"output")
    if not is_possible:
        monkeypatch.setattr(os, "link", refuse)
    source = BlobSource(partial(open_regular, place), 6, "output", place)
    (ref,) = await blobs.put_all([source], "job")
    path = blobs.path(ref.digest)
    assert path.samefile(place) == is_possible
    assert stat.S_IMODE(path.stat().st_mode) == 0o400
    place.unlink()
    assert await blobs.read(ref.digest) == b"output"


async def test_a_file_of_ours_that_grew_stays_where_it_is(open_blobs, tmp_path: Path) -> None:
    blobs = await open_blobs()
    place = tmp_path / "collected"
    place.write_bytes(b"more than six")
    with pytest.raises(InvalidRequest, match="grew beyond 6 bytes"):
        await blobs.put_all([BlobSource(partial(open_regular, place), 6, "output", place)], "job")
    assert place.read_bytes() == b"more than six"
    assert blobs.used_bytes() == 0
